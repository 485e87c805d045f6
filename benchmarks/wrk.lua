-- Requests by the environment's BODY, VARIETY, CALLERS and PAUSE_MS, and the figures as one JSON
-- object at the end.
local body = os.getenv("BODY") or ""
local variety = tonumber(os.getenv("VARIETY") or "0")
-- "HEADER PREFIX FIRST COUNT" sends a header with the prefix and one of COUNT numbers from FIRST.
local header, prefix, first, count =
  string.match(os.getenv("CALLERS") or "", "^(%S+) (%S*) (%d+) (%d+)$")
local pause_ms = tonumber(os.getenv("PAUSE_MS") or "0")

function init(args)
  if body ~= "" then
    wrk.method = "POST"
    wrk.body = body
    wrk.headers["Content-Type"] = "application/json"
  end
  if variety > 0 then
    math.randomseed(1003)
    local path = wrk.path
    request = function()
      local headers
      if header then
        headers = {[header] = string.format("%s%d", prefix, first + math.random(0, count - 1))}
      end
      return wrk.format("GET", path .. math.random(variety), headers)
    end
  end
end

-- wrk calls this function before each request of a connection.
if pause_ms > 0 then
  function delay() return pause_ms end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"bad":%d,"seconds":%f,"p50":%f,"p99":%f}\n',
    summary.requests,
    errors.status + errors.timeout,
    summary.duration / 1e6,
    latency:percentile(50) / 1000,
    latency:percentile(99) / 1000))
end
