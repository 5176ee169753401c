-- What scripts share besides head.lua: the clock, and how a record is written.

-- The present instant, the server's own one, and what the clock's key says; `read_clock` sets them.
local NOW, OWN = 0, 0
local LIFE, FLOOR = nil, 0

-- Reads the present instant into NOW.
local function read_clock()
  NOW, FLOOR, LIFE, OWN = instant(redis.call('TIME'), redis.call('GET', KEYS[3]))
  return NOW
end

-- The present instant, and at least `latest`, which the store has said already: a server that lost the clock goes on from there.
local function go_on_from(now, latest)
  if latest > now then NOW = latest end
  return NOW
end

-- Before every change, so that no later command sees an earlier instant. This one writes whatever the clock says already:
-- replicas that have this write have all that came before it.
local function rewrite_clock(now)
  if LIFE then set_clock(KEYS[3], now, LIFE) end
  FLOOR = now
end

-- The same, where it says something else.
local function write_clock(now)
  if now ~= FLOOR then rewrite_clock(now) end
end

-- Enters `id` into a sorted set until `last`; `score` in digits.
local function enter(set, score, id, last)
  redis.call('ZADD', set, score, id)
  live_until(set, last, OWN)
end

local function id_of(key)
  return string.sub(key, #P + 3)
end

local function unpacked(bytes)
  local _, record = cmsgpack.unpack_one(bytes)
  if record[V] > FORMAT then
    error('ONCEGATE a record has format ' .. tostring(record[V]) .. ', which this version does not know')
  end
  return record
end

local function read(key)
  local bytes = redis.call('GET', key)
  return bytes and unpacked(bytes)
end

-- When a record is gone, whatever happens.
local function end_of(record)
  if record[PHASE] == SENT then return record[UNTIL] + record[DOUBT_FOR] end
  return record[UNTIL]
end

-- The sorted set of the records in a phase, by the next deadline.
local function phase_set(phase)
  if phase == QUEUED then return P .. 'fq' end
  if phase == SENT then return P .. 'fs' end
  if phase == DONE then return P .. 'd' end
  return P .. 'x'
end

-- Writes a record, and the answer that stands behind it. `before`: the phase that it was found in, nil where there was none.
local function put(key, record, before, answer)
  local id, last = id_of(key), end_of(record)
  local ends = digits(last)
  local set = phase_set(record[PHASE])
  enter(set, digits(record[UNTIL]), id, last)
  if before and phase_set(before) ~= set then redis.call('ZREM', phase_set(before), id) end
  enter(P .. 's:' .. record[SCOPE], ends, id, last)
  if not record[KEYED] then
    enter(P .. 't:' .. record[TARGET], ends, id, last)
    if record[NAMES] then
      -- No claim on that resource need ever come and clear it.
      purge(P .. 't:' .. record[NAMES], NOW, 4)
      enter(P .. 't:' .. record[NAMES], ends, id, last)
    end
  end
  redis.call('SET', key, cmsgpack.pack(record) .. (answer or ''), 'PXAT', digits(last + SLACK))
end

-- Whether a record's answer has a key of its own.
local function is_apart(record)
  return record[LENGTH] > INLINE or record[V] < FORMAT
end

-- The answer of a record that is done, false where it is gone.
local function answer_of(key, record)
  if is_apart(record) then return redis.call('GET', KEYS[2]) end
  return redis.call('GETRANGE', key, -record[LENGTH], -1)
end

-- Tells every gateway that the attempt `token` of a record ended: `kind` is `a` (answered, with the answer), `A` (the
-- same, and the answer has to be fetched), `n` (not executed), `x` (in doubt) or `e` (what was known of it counts no longer); or
-- that it will count no longer when it ends (`m`).
local function publish(id, token, kind, rest)
  redis.call('PUBLISH', ARGV[2], kind .. id .. token .. rest)
end

-- The outcome of `record` is known, and kept for `keep`. `stored` is what is kept of the answer, `by` the token of the
-- attempt that gave it.
local function keep_answer(key, record, before, by, answer, stored, status, keep, now)
  local id, token, waited = id_of(key), record[TOKEN], record[WAITED]
  record[V], record[PHASE], record[TOKEN] = FORMAT, DONE, by
  record[SINCE], record[UNTIL], record[STATUS], record[LENGTH] = now, now + keep, status, #stored
  record[WAITED] = false
  if #stored > INLINE then
    redis.call('SET', KEYS[2], stored, 'PXAT', digits(record[UNTIL] + SLACK))
    put(key, record, before)
  else
    put(key, record, before, stored)
  end
  if not waited then return end
  if #answer > INLINE then
    publish(id, token, 'A', '')
  else
    publish(id, token, 'a', answer)
  end
end
