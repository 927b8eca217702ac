-- What a model's latest answers have used: how many they are, their tokens, and the input tokens that were estimated for
-- them. The latest :batches batches count: prompts and settings change.
SELECT
  coalesce(sum(answered), 0)::bigint AS answered,
  coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
  coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
  coalesce(sum(estimated_tokens), 0)::bigint AS estimated_tokens
FROM (
  SELECT answered, input_tokens, output_tokens, estimated_tokens
  FROM backfill.spend
  WHERE model = :model AND answered > 0 AND estimated_tokens > 0
  ORDER BY settled_at DESC
  LIMIT :batches
) AS latest
