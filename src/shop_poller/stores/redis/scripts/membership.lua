-- Report that a replica is alive, or leaves; return those that are alive.
--
-- KEYS: replicas. ARGV: stay | leave, the replica, for how long it counts as alive (ms), the latest valid instant (ms).
-- Returns the names of the replicas that are alive, sorted. The clock of Redis decides, since replicas' clocks differ.

local kind = redis.call('TYPE', KEYS[1])
kind = kind.ok or kind
if kind ~= 'zset' and kind ~= 'none' then -- damaged; every replica reports again within seconds
  redis.call('DEL', KEYS[1])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[1] == 'stay' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], ARGV[4], '+inf') -- damaged: no clock shows such a time
  -- No replica stays alive for longer than that from now on: if one would, the clock was set back since its report.
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now + ARGV[3], '+inf', 'LIMIT', 0, 500)) do
    redis.call('ZADD', KEYS[1], now + ARGV[3], name)
  end
  redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('ZREM', KEYS[1], ARGV[2])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local alive = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(alive)
return alive
