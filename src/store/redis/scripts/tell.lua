-- Every gateway of the fleet hears ARGV[3]: what a write does to answers that they keep.
return redis.call('PUBLISH', ARGV[2], 'r' .. ARGV[3])
