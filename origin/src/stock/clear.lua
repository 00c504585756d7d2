-- Makes the gate one that nobody believes, and forgets every hold: a hold of an old generation must not be given back to
-- a new one, whose levels never counted it. KEYS: epoch, all holds. ARGV: what a hold's key begins with.
redis.call('DEL', KEYS[1])
for _, order in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  redis.call('DEL', ARGV[1] .. order)
end
redis.call('DEL', KEYS[2])
return 1
