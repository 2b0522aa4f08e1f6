-- Delete records of orders.
--
-- KEYS: lease, state, known_orders, known_details, known_seen, known_open. ARGV: our nonce, then the ids.

local state, open = KEYS[2], KEYS[6]

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
local is_complete = redis.call('HGET', state, 'open') == tostring(redis.call('ZCARD', open)) -- see commit.lua
for i = 2, #ARGV do
  local id = ARGV[i]
  redis.call('HDEL', KEYS[3], id)
  redis.call('HDEL', KEYS[4], id)
  redis.call('ZREM', KEYS[5], id)
  redis.call('ZREM', open, string.rep('0', 19 - #id) .. id)
end
if is_complete then
  redis.call('HSET', state, 'open', redis.call('ZCARD', open))
end
return #ARGV - 1
