-- Delete numbers without a row from a key that indexes the rows of the outbox.
--
-- KEYS: lease, outbox, heads, the key to check. ARGV: our nonce, the kind of the key (due, age or heads), its shop
-- ("" for due and heads), its sink ("" for heads), then the numbers.
-- Returns how many numbers stay.

local kind, kept = ARGV[2], 0

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
for i = 5, #ARGV do
  local number = ARGV[i]
  local text = redis.call('HGET', KEYS[2], number)
  local read, row = pcall(cjson.decode, text or 'null')
  local stays = text and (kind == 'heads' or not read or type(row) ~= 'table'
    or (row.sink == ARGV[4] and (kind == 'due' or row.shop == ARGV[3])))
  if stays and kind == 'due' then
    stays = redis.call('HEXISTS', KEYS[3], number) == 1
  end
  if stays then
    kept = kept + 1
  else
    redis.call(kind == 'heads' and 'HDEL' or 'ZREM', KEYS[4], number)
  end
end
return kept
