-- Numbers dropped from what leads to the rows of the outbox, where there is no such row any more.
--
-- KEYS: lease, outbox, heads, the key that is looked at. ARGV: our nonce, what it is (due, age or heads), its shop
-- ("" for due), its sink, then the numbers.
-- Answers how many stay.

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
