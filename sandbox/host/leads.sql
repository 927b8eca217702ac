-- The leads of the plan. The times and directions of messages are computed as in messages.sql.

INSERT INTO "Lead" (
  "id", "firstName", "lastName", "email", "phone", "jobTitle", "companyName", "companyWebsite", "industry",
  "employeeHeadcount", "status", "sentimentTag", "fitScore", "intentScore", "overallScore", "scoreReasoning",
  "scoredAt", "lastInboundAt", "lastOutboundAt", "lastMessageAt", "lastMessageDirection", "clientId", "createdAt",
  "updatedAt"
)
SELECT
  id,
  first_name,
  last_name,
  -- Plain letters, a number that makes the address unique, and a domain that never exists.
  translate(lower(first_name || '.' || last_name), 'áéëíóöüçñø'' ', 'aeeiooucno') || n || '@' || domain,
  CASE WHEN pg_temp.draw(n, 'has phone') < 0.6 THEN
    '+1555' || lpad(floor(10000000 * pg_temp.draw(n, 'phone'))::TEXT, 7, '0')
  END,
  pg_temp.pick(
    ARRAY[
      'Head of Operations', 'Chief Executive Officer', 'Marketing Director', 'Procurement Manager', 'Founder',
      'VP Sales', 'Supply Chain Manager', 'Office Manager', 'Chief Financial Officer', 'General Counsel',
      'Nursing Director', 'Facility Manager', NULL
    ],
    pg_temp.draw(n, 'title')
  ),
  company,
  CASE WHEN pg_temp.draw(n, 'has website') < 0.8 THEN 'https://www.' || domain END,
  pg_temp.pick(
    CASE
      WHEN pg_temp.draw(n, 'in the market') < 0.7 THEN industries
      ELSE
        ARRAY[
          'Logistics', 'Retail', 'Software', 'Healthcare', 'Manufacturing', 'Construction', 'Education', 'Hospitality',
          'Finance', NULL
        ]
    END,
    pg_temp.draw(n, 'industry')
  ),
  pg_temp.pick(
    ARRAY['1-10', '11-50', '11-50', '51-200', '51-200', '201-500', '501-1000', '1001-5000', '10000+', NULL],
    pg_temp.draw(n, 'headcount')
  ),
  -- The status is independent of the tag: a blacklisted lead with a friendly tag is scored like any other.
  pg_temp.pick(
    CASE
      WHEN answers THEN ARRAY['contacted', 'contacted', 'qualified', 'unqualified', 'meeting-booked', 'blacklisted']
      ELSE ARRAY['new', 'new', 'new', 'contacted']
    END,
    pg_temp.draw(n, 'lead status')
  ),
  tag,
  greatest(1, least(4, score + floor(3 * pg_temp.draw(n, 'fit'))::INTEGER - 1)),
  greatest(1, least(4, score + floor(3 * pg_temp.draw(n, 'intent'))::INTEGER - 1)),
  score,
  (
    ARRAY[
      'Asks not to be contacted again, and the company is outside the profile.',
      'The profile may fit, but the answers are short and show no intent.',
      'Fits the profile and asks how it works.',
      'Fits the profile and proposes a time for a call.'
    ]
  )[score],
  CASE WHEN score IS NOT NULL THEN last_message_at + least(INTERVAL '5 minutes', (%(until)s - last_message_at) / 2) END,
  created_at + pace * last_inbound,
  created_at + pace * last_outbound,
  CASE WHEN messages > 0 THEN last_message_at END,
  CASE WHEN messages > 0 THEN CASE WHEN messages = last_inbound THEN 'inbound' ELSE 'outbound' END END,
  client_id,
  created_at,
  -- The last change of the lead: a message, or a change of its tag some time later.
  last_message_at + (%(until)s - last_message_at) * 0.9 * greatest(0, pg_temp.draw(n, 'updated') - 0.8)
FROM
  sample_plan
  JOIN (SELECT id AS client_id, industries FROM sample_client) AS market USING (client_id)
  CROSS JOIN LATERAL (
    SELECT
      created_at + pace * messages AS last_message_at,
      pg_temp.pick(
        ARRAY[
          'Anna', 'Ben', 'Carla', 'David', 'Elena', 'Farid', 'Grace', 'Hugo', 'Ingrid', 'James', 'Keiko', 'Liam',
          'María', 'Noah', 'Olga', 'Priya', 'Quentin', 'Rosa', 'Samuel', 'Tara', 'Umar', 'Victor', 'Wanda', 'Ximena',
          'Yusuf', 'Zoë', 'René', 'Jörg', 'Søren', 'Françoise'
        ],
        pg_temp.draw(n, 'first name')
      ) AS first_name,
      pg_temp.pick(
        ARRAY[
          'Keller', 'Nakamura', 'O''Brien', 'Silva', 'Novak', 'Patel', 'Johansson', 'Müller', 'García', 'Rossi', 'Kim',
          'Okafor', 'Dubois', 'van Dijk', 'Kowalski', 'Haddad', 'Nguyen', 'Smith', 'Fernández', 'Andersen', 'Cohen',
          'Ivanova', 'Murphy', 'Sørensen', 'Reyes', 'Weber', 'Singh', 'Costa', 'Lindqvist', 'Brown'
        ],
        pg_temp.draw(n, 'last name')
      ) AS last_name,
      pg_temp.pick(
        ARRAY[
          'Aldergrove', 'Bluestone', 'Cedarline', 'Dovetail', 'Eastgate', 'Fernhill', 'Granite', 'Highfield',
          'Ironwood', 'Juniper', 'Kestrel', 'Lakeshore', 'Meridian', 'Northgate', 'Oakhurst', 'Pinecrest', 'Redwood',
          'Silverbirch', 'Thornbury', 'Westbrook'
        ],
        pg_temp.draw(n, 'company')
      ) AS house,
      pg_temp.pick(
        ARRAY[
          'Logistics', 'Retail', 'Labs', 'Clinics', 'Foods', 'Textiles', 'Hotels', 'Systems', 'Partners', 'Group',
          'Works', 'Supply'
        ],
        pg_temp.draw(n, 'trade')
      ) AS trade
  ) AS person
  CROSS JOIN LATERAL (
    SELECT house || ' ' || trade AS company, lower(house || '-' || trade) || '.example' AS domain
  ) AS employer;
