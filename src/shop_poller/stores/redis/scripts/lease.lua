-- Take, renew or let go of the lease.
--
-- KEYS: lease. ARGV: take | renew | release | look, our nonce, its term (ms), what the server's clock cannot be
-- beyond (ms): if it is, it was set ahead, and whoever had the lease does not know yet that it is over.
-- Answers who has it now ("" for nobody) and the server's clock (seconds, microseconds): due times follow that
-- clock, so that replicas with clocks of their own agree.

local time = redis.call('TIME')
local is_ahead = time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[4])
local owner = redis.call('GET', KEYS[1])
if owner and ARGV[1] == 'take' then
  -- Longer than its term nobody has it: the clock was set back, or somebody took its expiry away.
  local left = redis.call('TTL', KEYS[1]) -- in seconds, rounded
  if left < 0 or 1000 * (left - 1) > tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    if not string.match(owner, '^[^/]*/%d+/%x+$') then -- none of us writes such a name, so nobody has it
      owner = false
    end
  end
end
if ARGV[1] == 'take' and not is_ahead and (not owner or owner == ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  owner = ARGV[2]
elseif ARGV[1] == 'renew' and owner == ARGV[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif ARGV[1] == 'release' and owner == ARGV[2] then
  redis.call('DEL', KEYS[1])
  owner = false
end
return {owner or '', time[1], time[2]}
