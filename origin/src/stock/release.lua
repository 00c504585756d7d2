-- Undoes a take. KEYS: epoch, all holds, what the names of the markers begin with.
-- ARGV: epoch, order number, how long a marker stays (ms), the request where it is known.
-- A hold of another request, whose order drew the same number at another replica, is left alone. A maker that knows another
-- generation gives nothing back: holds of old generations are gone already.
local hold = redis.call('HGET', KEYS[2], ARGV[2])
if hold and ARGV[4] and string.match(hold, '^%d+ (%S+)') ~= ARGV[4] then return 0 end
if hold then
  if redis.call('GET', KEYS[1]) == ARGV[1] then
    for stock, quantity in string.gmatch(string.match(hold, '^%d+ %S+(.*)') or '', ' (%S+) (%d+)') do
      if redis.call('EXISTS', stock) == 1 then redis.call('INCRBY', stock, quantity) end
    end
  end
  redis.call('HDEL', KEYS[2], ARGV[2])
end
if ARGV[4] then
  local period = math.floor(redis.call('TIME')[1] * 1000 / ARGV[3])
  for _, markers in ipairs({ KEYS[3] .. period, KEYS[3] .. (period - 1) }) do
    local marker = redis.call('HGET', markers, ARGV[4])
    if marker and string.match(marker, '^%S+') == ARGV[2] then redis.call('HDEL', markers, ARGV[4]) end
  end
end
return hold and 1 or 0
