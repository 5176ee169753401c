-- What all scripts begin with: names, and what needs nothing else. Put in front of each script by `source.rs`, which also
-- puts in the values of constants: every local that a function uses, and every function, costs at each run.
--
-- A script is one step of `domain::ledger` (`usual.lua`: many): the same outcomes, the same changes. Its keys are those of one
-- part of the store (one hash tag), so that a cluster runs it on one node. KEYS: 1 record, 2 large answer, 3 clock, and those
-- of lanes.lua; on a cluster also the sets of all phases, because it has to know what a script writes before that begins.
-- ARGV[1]: what the names of the part's other keys begin with; ARGV[2]: the channel of the ends of attempts.
--
-- Where a script changes several keys, the record comes last: if the server breaks a script off (a slot that moves to
-- another node), what is left behind are entries of indexes without a record, which everybody passes over.

local P = ARGV[1]
local VERSION = 1
-- A record's format: since 2 an answer stands behind it.
local FORMAT = 2

-- The places of a record's fields. New ones go to the end.
local V, PHASE, TOKEN, OWNER, MEANING, KEYED, POLICY, SCOPE, TARGET = 1, 2, 3, 4, 5, 6, 7, 8, 9
local CLAIMED, DOUBT_FOR, ENDED, UNTIL, SINCE, WHY, STATUS, NAMES = 10, 11, 12, 13, 14, 15, 16, 17
local WAITED, LENGTH, ROUTE, REQUEST, REQUEST_ID, LANE, SLOTS = 18, 19, 20, 21, 22, 23, 24

local QUEUED, SENT, DONE, DOUBT = 'q', 's', 'd', 'x'

-- Stands before the token of an attempt whose outcome somebody else knew, so that it says nothing of it any more; nothing but
-- '' was left of a token before there was this.
local BY_HAND = 'h'

-- A key outlives what it holds by so many milliseconds: what counts is read, not that a key is gone.
local SLACK = 60000
-- How long the clock outlives the last write.
local CLOCK_KEPT = 400 * 86400000
-- What an attempt without a record left to its waiting copies is kept so long.
local END_KEPT = 60000
-- An answer up to this size stands behind its record's fields, under the same key, and travels with the message that it is
-- there. A larger one has a key of its own, so that who looks at its record alone does not move it.
local INLINE = 8192
-- Scopes that stand for others, at most.
local ALIASES_MOST = 1000000
-- An alias is made to last longer than it is asked to, by this part of that: then not every write through it prolongs it.
local ALIAS_AHEAD = 8

-- An instant in digits. Left to the server it would be formatted as a fraction, which costs as much as a whole command; `%d`
-- alone has room for it on a machine of 64 bits only.
local function digits(instant)
  local low = instant % 1000000
  return string.format('%d%06d', (instant - low) / 1000000, low)
end

-- The present instant, and what the clock's key says: the latest instant at which something changed, and under which
-- agreement of the gateways nothing is missing (`enter.lua`); `lost` where they have not agreed. Nil: there is no clock, so
-- everything was lost. Time never goes back, whatever the server's own clock does; that one comes last, because keys expire
-- by it.
local function instant(time, written)
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  if not written then return now, 0, nil, now end
  local at = string.find(written, ' ', 1, true)
  local floor = tonumber(string.sub(written, 1, at - 1))
  return floor > now and floor or now, floor, string.sub(written, at + 1), now
end

-- Writes the clock; only `enter.lua` makes one.
local function set_clock(key, now, life)
  redis.call('SET', key, digits(now) .. ' ' .. life, 'PX', digits(CLOCK_KEPT))
end

-- A sorted set lives at least as long as an entry that is over at `last`; `own`: the server's own clock.
local function live_until(set, last, own)
  -- By more than is needed, so that the next entries need nothing.
  if redis.call('PTTL', set) < last + SLACK - own then redis.call('PEXPIREAT', set, digits(last + 2 * SLACK)) end
end

-- Takes entries that are over out of a set, a few at a time.
local function purge(set, now, most)
  local over = redis.call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, most)
  if #over > 0 then redis.call('ZREM', set, unpack(over)) end
  return #over
end
