-- What was given back lately: slot and token of each, from the place ARGV[3] on.
return redis.call('ZRANGE', P .. 'hf', ARGV[3], ARGV[3] + 999)
