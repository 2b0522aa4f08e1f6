-- Take, renew or release the lease, or look who has it.
--
-- KEYS: lease. ARGV: take | renew | release | look, our nonce, its term (ms), the latest time that the server's clock
-- can show (ms). If the clock is ahead of that, it was set ahead. Then the former owner may not know yet that its
-- lease has expired, so nobody takes it.
-- Returns the owner ("" for nobody) and the server's clock (seconds, microseconds). Due times follow that clock, so
-- that replicas with different clocks agree.

local time = redis.call('TIME')
local is_ahead = time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[4])
local owner = redis.call('GET', KEYS[1])
if owner and ARGV[1] == 'take' then
  -- Nobody holds it for longer than its term: the clock was set back, or another program removed the expiry.
  local left = redis.call('TTL', KEYS[1]) -- in seconds, rounded
  if left < 0 or 1000 * (left - 1) > tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    if not string.match(owner, '^[^/]*/%d+/%x+$') then -- no replica writes such a nonce, so nobody has it
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
