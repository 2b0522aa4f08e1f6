-- A delivery that cannot be made is taken out of its line, and a copy of it is kept.
--
-- KEYS: lease, outbox, lines, heads, rows_set_aside, due, age.
-- ARGV: our nonce, now (ms), seq, the row as it was read, its name in lines, how the names of its line begin, the
-- copy's field, the copy. Answers 0 if the row is not as it was read.

local outbox, lines, heads, aside, due, age = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local now, seq, name, line = ARGV[2], ARGV[3], ARGV[5], ARGV[6]

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
if redis.call('HGET', outbox, seq) ~= ARGV[4] then
  return 0
end
redis.call('HLEN', aside) -- it is of the right type: nothing is rolled back
-- Removing comes first: it is allowed when the memory is used up, and then the rest is too.
take_out({outbox = outbox, lines = lines, heads = heads, due = due, age = age}, now, seq, line, name)
redis.call('HSET', aside, ARGV[7], ARGV[8])
return 1
