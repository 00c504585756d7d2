-- Takes a nonce and holds a request against its limits: against all of them, or against none.
-- KEYS: the set of the nonce, then a bucket for each limit: the microsecond up to which its client's requests are spoken for.
-- ARGV: seconds to remember the nonce (0: there is none to take); the nonce; then for each limit the microseconds of one request,
-- those that may be spoken for ahead, and the seconds after which a bucket means nothing any more. The time is Redis' own: replicas
-- whose clocks differ share the buckets.
-- Replies -1 when the nonce was seen before, 0 when the request may pass, else the microseconds that it has to wait.
local call = redis.call
if ARGV[1] ~= '0' then
  if call('SADD', KEYS[1], ARGV[2]) == 0 then return -1 end
  call('EXPIRE', KEYS[1], ARGV[1])
end
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local due, wait = {}, 0
for i = 2, #KEYS do
  due[i] = math.max(tonumber(call('GET', KEYS[i]) or 0), now) + tonumber(ARGV[3 * i - 3])
  wait = math.max(wait, due[i] - now - tonumber(ARGV[3 * i - 2]))
end
if wait > 0 then return wait end
for i = 2, #KEYS do
  call('SET', KEYS[i], string.format('%.0f', due[i]), 'EX', ARGV[3 * i - 1])
end
return 0
