-- Rename a key of the wrong type, so that the right one can be made.
--
-- KEYS: the key, its new name. ARGV: our nonce (not looked at: nobody can use such a key), the right type.
-- Answers 1 if it was renamed.

local kind = redis.call('TYPE', KEYS[1])
kind = kind.ok or kind
if kind == 'none' or kind == ARGV[#ARGV] then
  return 0
end
redis.call('RENAME', KEYS[1], KEYS[2])
return 1
