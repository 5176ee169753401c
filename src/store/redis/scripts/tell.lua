-- Every gateway of the fleet hears ARGV[3]: what a write does to answers that they keep, or that this was heard.
return redis.call('PUBLISH', ARGV[2], ARGV[3])
