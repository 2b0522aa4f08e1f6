-- Rename a key of the wrong type, so that the right one can be created.
--
-- KEYS: the key, its new name. ARGV: last, the right type. No lease is needed, since nobody can use such a key.
-- Returns 1 if the key was renamed.

local kind = redis.call('TYPE', KEYS[1])
kind = kind.ok or kind
if kind == 'none' or kind == ARGV[#ARGV] then
  return 0
end
redis.call('RENAME', KEYS[1], KEYS[2])
return 1
