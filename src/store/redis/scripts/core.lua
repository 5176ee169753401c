-- What all scripts begin with: the clock, and how a record is written. Put in front of each script by `script.rs`, which
-- also puts in the values of constants: every local that a function uses, and every function, costs at each run.
--
-- A script is one step of `domain::ledger`: the same outcomes, the same changes. Its keys are those of one part of the
-- store (one hash tag), so that a cluster runs it on one node. KEYS: 1 record, 2 answer, 3 clock, 4 queued, 5 sent, 6 done,
-- 7 in doubt. ARGV[1]: what the names of the part's other keys begin with; ARGV[2]: the channel of the ends of attempts.
--
-- Where a script changes several keys, the record comes last: if the server breaks a script off (a slot that moves to
-- another node), what is left behind are entries of indexes without a record, which everybody passes over.

local P = ARGV[1]
local VERSION = 1

-- The present instant; `read_clock` sets it.
local NOW = 0

-- The places of a record's fields. New ones go to the end.
local V, PHASE, TOKEN, OWNER, MEANING, KEYED, POLICY, SCOPE, TARGET = 1, 2, 3, 4, 5, 6, 7, 8, 9
local CLAIMED, DOUBT_FOR, ENDED, UNTIL, SINCE, WHY, STATUS, NAMES = 10, 11, 12, 13, 14, 15, 16, 17
local WAITED, LENGTH, ROUTE, REQUEST, REQUEST_ID, LANE, SLOTS = 18, 19, 20, 21, 22, 23, 24

local QUEUED, SENT, DONE, DOUBT = 'q', 's', 'd', 'x'

-- A key outlives what it holds by so many milliseconds: what counts is read, not that a key is gone.
local SLACK = 60000
-- How long the clock outlives the last write.
local CLOCK_KEPT = 400 * 86400000
-- What an attempt without a record left to its waiting copies is kept so long.
local END_KEPT = 60000
-- An answer up to this size travels with the message that it is there.
local INLINE = 8192
-- Scopes that stand for others, at most.
local ALIASES_MOST = 1000000

-- The clock's key says the latest instant at which something changed, and under which agreement of the gateways nothing
-- is missing (`enter.lua`); '' where they have not agreed. Nil: there is no clock, so everything was lost.
local LIFE, FLOOR = nil, 0

-- Reads the present instant into NOW: it never goes back, whatever the server's own clock does.
local function read_clock()
  local time = redis.call('TIME')
  NOW = time[1] * 1000 + math.floor(time[2] / 1000)
  local written = redis.call('GET', KEYS[3])
  if written then
    local at = string.find(written, ' ', 1, true)
    FLOOR = tonumber(string.sub(written, 1, at - 1))
    if FLOOR > NOW then NOW = FLOOR end
    LIFE = string.sub(written, at + 1)
  end
  return NOW
end

-- Before every change, so that no later command sees an earlier instant. Only `enter.lua` makes a clock. This one writes
-- whatever it says already: replicas that have this write have all that came before it.
local function rewrite_clock(now)
  if LIFE then redis.call('SET', KEYS[3], string.format('%.0f ', now) .. LIFE, 'PX', CLOCK_KEPT) end
  FLOOR = now
end

-- The same, where it says something else.
local function write_clock(now)
  if now ~= FLOOR then rewrite_clock(now) end
end

local function id_of(key)
  return string.sub(key, #P + 3)
end

local function read(key)
  local bytes = redis.call('GET', key)
  if not bytes then return nil end
  local record = cmsgpack.unpack(bytes)
  if record[V] ~= VERSION then
    error('ONCEGATE a record has format ' .. tostring(record[V]) .. ', which this version does not know')
  end
  return record
end

-- When a record is gone, whatever happens.
local function end_of(record)
  if record[PHASE] == SENT then return record[UNTIL] + record[DOUBT_FOR] end
  return record[UNTIL]
end

-- Enters `id` into a sorted set that lives at least as long as the entry.
local function enter(set, score, id, last)
  redis.call('ZADD', set, score, id)
  -- By more than is needed, so that the next entries need nothing.
  if redis.call('PTTL', set) < last + SLACK - NOW then redis.call('PEXPIREAT', set, last + 2 * SLACK) end
end

-- Takes entries that are over out of a set, a few at a time.
local function purge(set, now, most)
  local over = redis.call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, most)
  if #over > 0 then redis.call('ZREM', set, unpack(over)) end
  return #over
end

-- The sorted set of the records in a phase, by the next deadline.
local function phase_set(phase)
  if phase == QUEUED then return KEYS[4] end
  if phase == SENT then return KEYS[5] end
  if phase == DONE then return KEYS[6] end
  return KEYS[7]
end

-- Writes a record. `before`: the phase that it was found in, nil where there was none.
local function put(key, record, before)
  local id, last = id_of(key), end_of(record)
  local set = phase_set(record[PHASE])
  enter(set, record[UNTIL], id, last)
  if before and phase_set(before) ~= set then redis.call('ZREM', phase_set(before), id) end
  enter(P .. 's:' .. record[SCOPE], last, id, last)
  if not record[KEYED] then
    enter(P .. 't:' .. record[TARGET], last, id, last)
    if record[NAMES] then enter(P .. 't:' .. record[NAMES], last, id, last) end
  end
  redis.call('SET', key, cmsgpack.pack(record), 'PXAT', last + SLACK)
end

-- Tells every gateway that the attempt `token` of a record ended: `kind` is `a` (answered, with the answer), `A` (the
-- same, and the answer has to be fetched), `n` (not executed) or `x` (in doubt).
local function publish(id, token, kind, rest)
  redis.call('PUBLISH', ARGV[2], kind .. id .. token .. rest)
end

-- The outcome of `record` is known, and kept for `keep`. `stored` is what is kept of the answer, `by` the token of the
-- attempt that gave it.
local function keep_answer(key, record, before, by, answer, stored, status, keep, now)
  local id, token, waited = id_of(key), record[TOKEN], record[WAITED]
  record[PHASE], record[TOKEN] = DONE, by
  record[SINCE], record[UNTIL], record[STATUS], record[LENGTH] = now, now + keep, status, #stored
  redis.call('SET', KEYS[2], stored, 'PXAT', record[UNTIL] + SLACK)
  record[WAITED] = false
  put(key, record, before)
  if not waited then return end
  if #answer > INLINE then
    publish(id, token, 'A', '')
  else
    publish(id, token, 'a', answer)
  end
end
