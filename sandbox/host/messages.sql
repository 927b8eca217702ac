-- The messages of every lead. Message k was sent at created_at + k * pace; in a tied thread, one more message follows
-- the last, with the time of the newest inbound one. A lead has fewer than 8 messages, so n * 8 + k numbers the
-- messages of all leads.

INSERT INTO "Message" (
  "id", "channel", "source", "body", "subject", "isRead", "direction", "sentBy", "leadId", "sentAt", "createdAt"
)
SELECT
  pg_temp.id('message', m),
  split_part(via, '/', 1),
  split_part(via, '/', 2),
  CASE
    WHEN NOT inbound THEN
      pg_temp.pick(
        CASE
          WHEN k = 1 AND service IS NOT NULL THEN
            ARRAY[
              service || ': that is what we do.', 'I saw that your team is growing and thought of you. ' || service || '.',
              'I will keep this short. ' || service || '.'
            ]
          ELSE
            ARRAY[
              'We help teams like yours save a day a week.', 'Most of our customers had the same question at first.',
              'Thanks for getting back to me.', 'I am following up on my last note.',
              'Happy to send over two examples from your industry.'
            ]
        END,
        pg_temp.draw(m, 'opening')
      ) || ' ' || pg_temp.pick(
        ARRAY[
          'Would Tuesday or Thursday work for a quick call?', 'Is that something you look after?',
          'Shall I send the details?', 'Who would be the right person to talk to?',
          'What would have to be true for this to be worth 15 minutes?'
        ],
        pg_temp.draw(m, 'question')
      )
    WHEN tag IN ('Meeting Requested', 'Meeting Booked') THEN
      pg_temp.pick(
        ARRAY[
          'Good timing, we are looking at this right now.', 'Yes, that is on my desk.', 'A colleague told me about you.',
          'We spoke about this in our team meeting yesterday.', 'My budget for this is approved.'
        ],
        pg_temp.draw(m, 'opening')
      ) || ' ' || pg_temp.pick(
        ARRAY[
          'Thursday at 10 works for me.', 'Please call me after lunch.', 'Could we talk on Monday?',
          'Please send a calendar invite for next week.', 'When can you show it to the two of us?'
        ],
        pg_temp.draw(m, 'question')
      )
    WHEN tag IN ('Interested', 'Information Requested', 'Follow Up') THEN
      pg_temp.pick(
        ARRAY[
          'Sounds interesting.', 'Our contract ends in spring.', 'We looked at two others last year.',
          'We are about ' || 10 * (1 + floor(40 * pg_temp.draw(m, 'people'))) || ' people and do this by hand today.',
          'This could be useful for our second site.', 'I have read your note twice.'
        ],
        pg_temp.draw(m, 'opening')
      ) || ' ' || pg_temp.pick(
        ARRAY[
          'Can you send prices?', 'What would it cost for one team?', 'Could you send more details?',
          'Do you have a case study from our industry?', 'How long does it take until it works?',
          'What does it take to get started?', 'We decide next quarter.', 'I have to check with my colleagues.',
          'Which of our systems would you need?', 'Let me think about it.'
        ],
        pg_temp.draw(m, 'question')
      )
    WHEN tag IN (
      'Not Interested', 'Blacklist', 'blacklist', 'Opt Out', 'Opt-Out', 'Opted Out', 'Unsubscribe', 'Unsubscribed',
      'UNSUBSCRIBED'
    ) THEN
      pg_temp.pick(
        ARRAY[
          'Please take me off your list.', 'STOP', 'Not for us, thank you.', 'Do not write to me again.', 'unsubscribe',
          'We have a supplier and are not going to change.', 'No thanks, we are all set.',
          'We went with another provider last month.', 'Wrong person, I left the company in May.'
        ],
        pg_temp.draw(m, 'opening')
      )
    WHEN tag IN ('Bounced', 'Bounce', 'Bounced ') THEN
      pg_temp.pick(
        ARRAY[
          'Delivery to the following recipient failed permanently: the address does not exist.',
          'Undeliverable: the mailbox is full.'
        ],
        pg_temp.draw(m, 'opening')
      )
    WHEN tag = 'Out of Office' THEN
      pg_temp.pick(
        ARRAY['I am out of the office until Monday.', 'Automatic reply: I am on annual leave until the 14th.'],
        pg_temp.draw(m, 'opening')
      )
    ELSE
      pg_temp.pick(
        ARRAY[
          'Who is this?', 'Maybe later in the year.', 'What is it that you do, exactly?', 'Ok.', '👍',
          'I have passed this on to our operations team.', 'We are a small shop, I am not sure that we fit.',
          'We already have a tool for that.', 'Thanks, I will get back to you.', 'How did you get my address?',
          'You should talk to my colleague in purchasing.', 'Could be useful, but not right now.',
          'How is this different from what we have?', 'Send me some information, please.'
        ],
        pg_temp.draw(m, 'opening')
      )
  END,
  CASE WHEN via LIKE 'email/%%' THEN
    CASE WHEN k > 1 THEN 'Re: ' ELSE '' END
    || pg_temp.pick(
      ARRAY['A question about your team', 'Quick idea', 'Next quarter', 'Fifteen minutes?'],
      pg_temp.draw(n, 'subject')
    )
  END,
  NOT inbound OR pg_temp.draw(m, 'read') < 0.8,
  CASE WHEN inbound THEN 'inbound' ELSE 'outbound' END,
  CASE WHEN NOT inbound THEN pg_temp.pick(ARRAY['ai', 'ai', 'setter'], pg_temp.draw(m, 'sender')) END,
  id,
  sent_at,
  sent_at
FROM (
  SELECT
    n,
    k,
    n * 8 + k AS m,
    id,
    tag,
    service,
    k > messages OR (answers AND mod(k + opens, 2) = 0) AS inbound,
    created_at + pace * CASE WHEN k > messages THEN last_inbound ELSE k END AS sent_at,
    -- One conversation in five continues by text message.
    CASE
      WHEN k > 2 AND pg_temp.draw(n, 'goes on by sms') < 0.2 THEN 'sms/zrg'
      ELSE
        pg_temp.pick(
          ARRAY[
            'email/emailbison', 'email/emailbison', 'email/smartlead', 'email/instantly', 'email/inboxxia',
            'sms/zrg', 'sms/ghl', 'linkedin/unipile'
          ],
          pg_temp.draw(n, 'via')
        )
    END AS via
  FROM sample_plan
  JOIN (SELECT id AS client_id, service FROM sample_client) AS offer USING (client_id)
  CROSS JOIN LATERAL generate_series(1, messages + tied::INTEGER) AS k
) AS message;

UPDATE "Lead" AS lead
SET "lastZrgOutboundAt" = zrg.at
FROM (
  SELECT "leadId" AS id, max("sentAt") AS at FROM "Message" WHERE direction = 'outbound' AND source = 'zrg' GROUP BY 1
) AS zrg
WHERE zrg.id = lead.id;
