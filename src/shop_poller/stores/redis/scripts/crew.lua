-- Say that a replica is there, or goes; learn who is there.
--
-- KEYS: replicas. ARGV: stay | leave, the replica, for how long it is there from now on (ms).
-- Answers who is there, by name. Redis' clock counts: replicas have clocks of their own.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == 'stay' then
  redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('ZREM', KEYS[1], ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local crew = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(crew)
return crew
