-- Give finished deliveries, which a clock that was ahead has dated, another date, if we still have the lease.
--
-- KEYS: lease, dead_letters or delivered, the sorted set of their ages. ARGV: our nonce, the date (ms), the moves as
-- JSON: each [seq, the delivery as it was read, the same with that date].
-- A delivery that has changed since it was read was moved by another process, and is skipped. Returns how many were
-- changed.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
local changed = 0
for _, move in ipairs(cjson.decode(ARGV[3])) do
  if redis.call('HGET', KEYS[2], move[1]) == move[2] then
    redis.call('HSET', KEYS[2], move[1], move[3])
    redis.call('ZADD', KEYS[3], 'XX', ARGV[2], move[1])
    changed = changed + 1
  end
end
return changed
