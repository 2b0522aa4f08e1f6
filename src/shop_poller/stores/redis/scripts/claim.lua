-- The deliveries that are due, the longest due first; only heads of lines are in `due`.
--
-- KEYS: lease, outbox, heads, due. ARGV: our nonce, now (ms), how many, then the seqs that are claimed already.
-- Answers seq, row, head ("since attempts"), and so on. Which rows are claimed only the holder of the lease
-- knows: those of a process that dies are void at once.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
local claimed, found, limit, at = {}, {}, tonumber(ARGV[3]), 0
for i = 4, #ARGV do
  claimed[ARGV[i]] = true
end
while #found < 3 * limit do
  local seqs = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', ARGV[2], 'LIMIT', at, 200)
  if #seqs == 0 then
    break
  end
  for _, seq in ipairs(seqs) do
    if not claimed[seq] and #found < 3 * limit then
      local row, head = redis.call('HGET', KEYS[2], seq), redis.call('HGET', KEYS[3], seq)
      if not row or not head then
        return redis.error_reply('TORN a delivery is gone')
      end
      found[#found + 1], found[#found + 2], found[#found + 3] = seq, row, head
    end
  end
  at = at + #seqs
end
return found
