-- Record orders that have no record, while another process may have the lease. Existing records do not change.
--
-- KEYS: state, known_orders, known_details, known_seen, known_open, backfill.
-- ARGV: our nonce (not checked: no lease is needed), now (ms), the orders as JSON: each [id, status, details, name in
-- known_open, whether it belongs there], the position of the backfill.
-- Returns how many had no record. It is an error if nothing has polled this shop yet.

local state, known, details, seen, open, backfill = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]

if redis.call('HEXISTS', state, 'started_at') == 0 then
  return redis.error_reply('ERR no state yet; `shop-poller run` makes it')
end
local is_complete = redis.call('HGET', state, 'open') == tostring(redis.call('ZCARD', open)) -- see commit.lua
local learned = 0
for _, order in ipairs(cjson.decode(ARGV[3])) do
  local id = order[1]
  if redis.call('HEXISTS', known, id) == 0 and redis.call('HEXISTS', details, id) == 0 then
    redis.call('HSET', known, id, order[2])
    redis.call('HSET', details, id, order[3])
    redis.call('ZADD', seen, ARGV[2], id)
    if order[5] then
      redis.call('ZADD', open, 0, order[4])
    end
    learned = learned + 1
  end
end
if is_complete then
  redis.call('HSET', state, 'open', redis.call('ZCARD', open))
else
  redis.call('HDEL', state, 'open')
end
local position = cjson.decode(ARGV[4])
redis.call('HSET', backfill, 'since', position[1], 'created_before', position[2])
redis.call('HSET', backfill, 'learned', string.format('%.0f', position[3] + learned))
return learned
