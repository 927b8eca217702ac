-- One page. A row that a webhook has changed since it was read fails the comparison and is not updated: `updated` is
-- then less than `read`, and the caller rolls back and retries. "updatedAt" is left unchanged: the host sorts its inbox
-- by it.
WITH picked AS MATERIALIZED (
{message_rollups/selection.sql}
),
-- A full page ends at its last lead.
page_end AS (
  SELECT CASE WHEN count(*) = :limit THEN max(id) ELSE ({host/page_end.sql}) END AS cursor FROM picked
),
updated AS (
  UPDATE {host}."Lead" AS lead
  SET
    "lastInboundAt" = picked.inbound_at,
    "lastOutboundAt" = picked.outbound_at,
    "lastZrgOutboundAt" = picked.zrg_at,
    "lastMessageAt" = picked.message_at,
    "lastMessageDirection" = picked.direction
  FROM picked
  WHERE
    lead.id = picked.id
    AND ROW("lastInboundAt", "lastOutboundAt", "lastZrgOutboundAt", "lastMessageAt", "lastMessageDirection")
      IS NOT DISTINCT FROM picked.was
  RETURNING picked.client_id
)
SELECT
  cursor,
  (SELECT count(*) FROM picked) AS read,
  (SELECT count(*) FROM updated) AS updated,
  (SELECT coalesce(array_agg(DISTINCT client_id), ARRAY[]::text[]) FROM updated) AS clients
FROM page_end
