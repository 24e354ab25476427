-- Rate limits in Redis: the same step as in limits/buckets.py, atomic, by Redis's own clock.
--
-- KEYS: one for each check, all with one hash tag. A bucket is a hash of its level (l: units times a minute's
-- microseconds), the time that this is of (t: microseconds) and the limit that it drains by (m); places are a sorted
-- set of leases by their end.
-- ARGV: "take", "look", "settle" or "used"; the lease; its length in microseconds; then for each check its kind ("b" for
-- a bucket, "c" for places), limit and cost, or correction.
-- Gives for "take" {1, used...} or {0, wait in microseconds, or -1 if waiting is no use, or -2 for a check that
-- has room, ...}; for "look" the same waits, without taking; for "used" {1, used...}.
local MINUTE = 60000000
local mode, lease, length = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

-- A bucket's level, and the limit that it goes by. An empty one goes by the limit of whoever comes first.
-- Where the clock was set back, the bucket drains from now on, not only once the clock has come so far again.
local function drained(key, limit)
  local state = redis.call('HMGET', key, 'l', 't', 'm')
  if not state[1] then return 0, limit end
  local kept = tonumber(state[3]) or limit
  local at = tonumber(state[2])
  if at > now then
    redis.call('HSET', key, 't', string.format('%.0f', now))
    at = now
  end
  local level = tonumber(state[1]) - (now - at) * kept
  if level <= 0 then return 0, limit end
  return level, kept
end

local function keep(key, level, limit)
  if level <= 0 then
    redis.call('DEL', key)
    return
  end
  redis.call('HSET', key, 'l', string.format('%.0f', level), 't', string.format('%.0f', now),
    'm', string.format('%.0f', limit))
  -- At most a year: a provider may report any number of tokens.
  redis.call('PEXPIRE', key, math.min(math.ceil(level / math.max(limit, 1) / 1000) + 1000, 31536000000))
end

-- The level under a limit that may be another than before: a bucket whose limit is lowered is at most full.
local function changed(key, limit, keeps)
  local level, kept = drained(key, limit)
  if limit < kept then level = math.min(level, limit * MINUTE) end
  if keeps and limit ~= kept then keep(key, level, limit) end
  return level
end

-- Adds what a call that was taken under a limit used beyond its cost: no debt where that was lowered meanwhile.
local function correct(key, correction, limit)
  local before, kept = drained(key, limit)
  local after = before + correction * MINUTE
  if limit > kept then after = math.min(after, math.max(before, kept * MINUTE)) end
  keep(key, after, kept)
end

local function places(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  return redis.call('ZCARD', key)
end

local answer, levels, room = {1}, {}, true
local asks = mode == 'take' or mode == 'look'
for i, key in ipairs(KEYS) do
  local kind, limit, cost = ARGV[3 * i + 1], tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
  if mode == 'settle' then
    if kind == 'c' then
      redis.call('ZREM', key, lease)
    elseif cost ~= 0 then
      correct(key, cost, limit)
    end
  elseif kind == 'c' then
    levels[i] = places(key)
    if asks and levels[i] >= limit then
      room = false
      answer[i + 1] = -1
    else
      answer[i + 1] = -2
    end
  else
    levels[i] = changed(key, limit, asks)
    local excess = levels[i] + cost * MINUTE - limit * MINUTE
    if asks and excess > 0 then
      room = false
      answer[i + 1] = limit > 0 and math.ceil(excess / limit) or -1
    else
      answer[i + 1] = -2
    end
  end
end
if mode == 'settle' then return {1} end
if not room then
  answer[1] = 0
  return answer
end
if mode == 'look' then return answer end

for i, key in ipairs(KEYS) do
  local kind, limit, cost = ARGV[3 * i + 1], tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
  if kind == 'c' then
    if mode == 'take' then
      redis.call('ZADD', key, now + length, lease)
      redis.call('PEXPIRE', key, math.ceil(length / 1000) + 1000)
      levels[i] = levels[i] + 1
    end
    answer[i + 1] = levels[i]
  else
    if mode == 'take' then
      levels[i] = levels[i] + cost * MINUTE
      keep(key, levels[i], limit)
    end
    answer[i + 1] = math.ceil(levels[i] / MINUTE)
  end
end
return answer
