-- Say that a replica is there, or goes; learn who is there.
--
-- KEYS: replicas. ARGV: stay | leave, the replica, for how long it is there from now on (ms), the latest instant that there is (ms).
-- Answers who is there, by name. Redis' clock counts: replicas have clocks of their own.

local kind = redis.call('TYPE', KEYS[1])
kind = kind.ok or kind
if kind ~= 'zset' and kind ~= 'none' then -- damaged; what is in it is said anew within seconds
  redis.call('DEL', KEYS[1])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == 'stay' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], ARGV[4], '+inf') -- damaged: no clock said so
  -- Nobody is there for longer from now on: the clock was set back since they said so.
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now + ARGV[3], '+inf', 'LIMIT', 0, 500)) do
    redis.call('ZADD', KEYS[1], now + ARGV[3], name)
  end
  redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('ZREM', KEYS[1], ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local crew = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(crew)
return crew
