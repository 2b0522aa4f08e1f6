-- Copy keys as they are at one moment.
--
-- KEYS: lanes, then the keys. Answers the members of lanes, then for each key its serialized value (nothing if
-- there is no such key) and its time to live (ms; -1: it stays).

local answer = {redis.call('SMEMBERS', KEYS[1])}
for i = 2, #KEYS do
  answer[2 * i - 2] = redis.call('DUMP', KEYS[i])
  answer[2 * i - 1] = redis.call('PTTL', KEYS[i])
end
return answer
