-- Replace the state by the values restored under temporary names, all at once.
--
-- KEYS: lease, then for each key its name and the name of its new value. ARGV: our nonce, then for each key its
-- time to live (ms; -1: it does not expire), or "" to delete the key.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED')
end
for i = 2, #ARGV do
  if ARGV[i] ~= '' and redis.call('EXISTS', KEYS[2 * i - 1]) == 0 then
    return redis.error_reply('ERR what was restored is gone again')
  end
end
for i = 2, #ARGV do
  local key, new = KEYS[2 * i - 2], KEYS[2 * i - 1]
  redis.call('UNLINK', key)
  if ARGV[i] ~= '' then
    redis.call('RENAME', new, key)
    if tonumber(ARGV[i]) > 0 then
      redis.call('PEXPIRE', key, ARGV[i])
    else
      redis.call('PERSIST', key)
    end
  end
end
return 1
