-- Ids of records in the set of the phase ARGV[3], from the place ARGV[4] on, ARGV[5] of them.
return redis.call('ZRANGE', phase_set(ARGV[3]), ARGV[4], ARGV[4] + ARGV[5] - 1)
