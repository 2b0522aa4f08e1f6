-- Return the deliveries that are due, the longest due first; only heads of lines are in `due`. After them, return
-- those with an impossibly late due time, which a clock that was ahead has parked. A head whose time as a head is
-- in the future gets `now`.
--
-- KEYS: lease, outbox, heads, due.
-- ARGV: our nonce, now (ms), how many, the latest valid due time (ms), then the seqs that are claimed already.
-- Returns seq, row, head ("since attempts") of each delivery in one flat list. Only the holder of the lease knows
-- which rows are claimed: if it dies, its claims are void at once.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
local claimed, found, limit = {}, {}, tonumber(ARGV[3])
for i = 5, #ARGV do
  claimed[ARGV[i]] = true
end
for _, range in ipairs({{'-inf', ARGV[2]}, {'(' .. ARGV[4], '+inf'}}) do
  local at = 0
  while #found < 3 * limit do
    local seqs = redis.call('ZRANGEBYSCORE', KEYS[4], range[1], range[2], 'LIMIT', at, 200)
    if #seqs == 0 then
      break
    end
    for _, seq in ipairs(seqs) do
      if not claimed[seq] and #found < 3 * limit then
        local row, head = redis.call('HGET', KEYS[2], seq), redis.call('HGET', KEYS[3], seq)
        if not row or not head then
          return redis.error_reply('TORN a delivery is gone')
        end
        local since, attempts = string.match(head, '^(%-?%d+) (%d+)$')
        if since and tonumber(since) > tonumber(ARGV[2]) then
          head = ARGV[2] .. ' ' .. attempts
          redis.call('HSET', KEYS[3], seq, head)
        end
        found[#found + 1], found[#found + 2], found[#found + 3] = seq, row, head
      end
    end
    at = at + #seqs
  end
end
return found
