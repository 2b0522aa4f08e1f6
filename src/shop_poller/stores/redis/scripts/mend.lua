-- A piece of the outbox's order made anew, if we still have the lease and nothing was put into the outbox since it
-- was read: what others put back meanwhile is not in these commands.
--
-- KEYS: lease, outbox, then the keys of the commands. ARGV: our nonce, the last number given as it was read, the
-- commands as JSON: each [name, number of its key, argument, …]. Answers 0 if all is to be read again.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('FENCED another process has the lease')
end
if (redis.call('HGET', KEYS[2], 'seq') or '') ~= ARGV[2] then
  return 0
end
for _, command in ipairs(cjson.decode(ARGV[3])) do
  redis.call(command[1], KEYS[2 + command[2]], unpack(command, 3))
end
return 1
