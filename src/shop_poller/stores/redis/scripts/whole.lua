-- Check that the index of the deliveries is complete, by counts that the server keeps anyway. It is one script because
-- other processes may put deliveries back meanwhile. No row is read, however many there are.
--
-- KEYS: outbox, lines, heads, then `due` of each sink and `age` of each lane. ARGV: how many of these are `due`, and
-- how many fields of `outbox` are not rows ("" for the stored count).
-- Returns 1 or 0. Returns -1 if the fields of `outbox` that are not rows were not counted yet, as in the outbox of an
-- earlier version.

local fields, others = redis.call('HLEN', KEYS[1]), tonumber(ARGV[2])
if not others then
  others = tonumber(redis.call('HGET', KEYS[1], 'others') or '')
end
if fields > 0 and not others then
  return -1
end
local rows, due, age = fields - (others or 0), 0, 0
for i = 4, #KEYS do
  local count = redis.call('ZCARD', KEYS[i])
  if i < 4 + tonumber(ARGV[1]) then
    due = due + count
  else
    age = age + count
  end
end
local lines, heads = redis.call('ZCARD', KEYS[2]), redis.call('HLEN', KEYS[3])
local is_ordered = redis.call('ZCOUNT', KEYS[2], 0, 0) == lines -- names sort only if all scores are equal
return (is_ordered and rows == lines and rows == age and heads == due and (rows > 0) == (heads > 0)) and 1 or 0
