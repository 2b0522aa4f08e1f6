-- Renew many leases at once.
--
-- KEYS: leases. ARGV: their term (ms), then the nonce of each.
-- Returns the server's clock (seconds, microseconds), then the owner of each lease ("" for nobody).

local time = redis.call('TIME')
local answer = {time[1], time[2]}
for i, key in ipairs(KEYS) do
  local owner = redis.call('GET', key)
  if owner == ARGV[i + 1] then
    redis.call('PEXPIRE', key, ARGV[1])
  end
  answer[i + 2] = owner or ''
end
return answer
