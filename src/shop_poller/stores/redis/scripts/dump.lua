-- Copy keys at one moment.
--
-- KEYS: lanes, then the keys. Returns the members of lanes, then for each key its serialized value (nil if the key
-- does not exist) and its time to live (ms; -1: it does not expire).

local answer = {redis.call('SMEMBERS', KEYS[1])}
for i = 2, #KEYS do
  answer[2 * i - 2] = redis.call('DUMP', KEYS[i])
  answer[2 * i - 1] = redis.call('PTTL', KEYS[i])
end
return answer
