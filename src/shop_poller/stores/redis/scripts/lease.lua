-- Take, renew or let go of the lease.
--
-- KEYS: lease. ARGV: take | renew | release | look, our nonce, its term (ms).
-- Answers who has it now ("" for nobody) and the server's clock (seconds, microseconds): due times follow that
-- clock, so that replicas with clocks of their own agree.

local owner = redis.call('GET', KEYS[1])
if ARGV[1] == 'take' and (not owner or owner == ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  owner = ARGV[2]
elseif ARGV[1] == 'renew' and owner == ARGV[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif ARGV[1] == 'release' and owner == ARGV[2] then
  redis.call('DEL', KEYS[1])
  owner = false
end
local time = redis.call('TIME')
return {owner or '', time[1], time[2]}
