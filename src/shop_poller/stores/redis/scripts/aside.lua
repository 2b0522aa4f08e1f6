-- Take a row that cannot be delivered out of its line, and keep a copy of it.
--
-- KEYS: lease, outbox, lines, heads, rows_set_aside, due, age.
-- ARGV: our nonce, now (ms), seq, the row as it was read, its name in lines, the prefix of the names of its line,
-- the field of the copy, the copy. Returns 0 if the row has changed since it was read, else 1.

local outbox, lines, heads, aside, due, age = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local now, seq, name, line = ARGV[2], ARGV[3], ARGV[5], ARGV[6]

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
if redis.call('HGET', outbox, seq) ~= ARGV[4] then
  return 0
end
redis.call('HLEN', aside) -- fails now if the key has the wrong type, since nothing is rolled back later
-- Remove first: Redis allows it even when the memory is used up, and then it allows the rest of the script too.
take_out({outbox = outbox, lines = lines, heads = heads, due = due, age = age}, now, seq, line, name)
redis.call('HSET', aside, ARGV[7], ARGV[8])
return 1
