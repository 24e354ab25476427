-- Rate limits in Redis: the same step as in limits/buckets.py, atomic, by Redis's own clock.
--
-- KEYS: one for each check, all with one hash tag. A bucket is a hash of its level (l: units times a minute's
-- microseconds) and the time that this is of (t: microseconds); places are a sorted set of leases by their end.
-- ARGV: "take", "look", "settle" or "used"; the lease; its length in microseconds; then for each check its kind ("b" for
-- a bucket, "c" for places), limit and cost, or correction.
-- Gives for "take" {1, remaining...} or {0, wait in microseconds, or -1 if waiting is no use, or -2 for a check
-- that has room, ...}; for "look" the same, without taking; for "used" {1, used...}.
local MINUTE = 60000000
local mode, lease, length = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function level(key, limit)
  local state = redis.call('HMGET', key, 'l', 't')
  if not state[1] then return 0 end
  local elapsed = math.max(now - tonumber(state[2]), 0)
  return math.max(tonumber(state[1]) - elapsed * limit, 0)
end

local function keep(key, value, limit)
  if value <= 0 then
    redis.call('DEL', key)
    return
  end
  redis.call('HSET', key, 'l', string.format('%.0f', value), 't', string.format('%.0f', now))
  redis.call('PEXPIRE', key, math.ceil(value / math.max(limit, 1) / 1000) + 1000)
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
      keep(key, level(key, limit) + cost * MINUTE, limit)
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
    levels[i] = level(key, limit)
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
      answer[i + 1] = limit - levels[i] - 1
    else
      answer[i + 1] = levels[i]
    end
  else
    if mode == 'take' then
      levels[i] = levels[i] + cost * MINUTE
      keep(key, levels[i], limit)
      answer[i + 1] = limit - math.ceil(levels[i] / MINUTE)
    else
      answer[i + 1] = math.ceil(levels[i] / MINUTE)
    end
  end
end
return answer
