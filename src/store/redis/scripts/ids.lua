-- Ids of records in the set of a phase: KEYS[ARGV[3]], from the place ARGV[4] on, ARGV[5] of them.
return redis.call('ZRANGE', KEYS[tonumber(ARGV[3])], ARGV[4], ARGV[4] + ARGV[5] - 1)
