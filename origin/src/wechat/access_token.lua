-- What came of a fetch: ARGV[1] is the lease's holder; ARGV[2], the sealed token, and ARGV[3], its milliseconds to live, are
-- absent when there is none. The lease ends if it is still this holder's.
if ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
end
return 1
