-- Nine workspaces and their settings. The last has no leads and no settings, the one before it very few leads: plan.sql
-- distributes the leads. Questions are a JSON array as text, plain text, or missing. The industries are those of the
-- workspace's market: most of its leads come from there.

CREATE TEMPORARY TABLE sample_client AS
SELECT pg_temp.id('client', n) AS id, settings.*
FROM (
  VALUES
    (
      1, 'Northwind Robotics', 'Warehouse robots that pick and pack, rented by the month',
      'Operations leaders at logistics companies with 200 or more employees and at least one own warehouse',
      '["How many orders do you ship a day?", "Who decides on warehouse equipment?", "When does your lease end?"]',
      ARRAY['Logistics', 'Logistics', 'Freight and shipping', 'Wholesale']
    ),
    (
      2, 'Brightwater Analytics', 'Demand forecasts for retailers, ready in two weeks',
      'Heads of supply chain or finance at retailers with 50 to 5,000 employees',
      '["Which planning tool do you use today?", "What does one percent of stock cost you?"]',
      ARRAY['Retail', 'Retail', 'Ecommerce', 'Grocery']
    ),
    (
      3, 'Harbor & Vine Legal', 'Contract review by lawyers, at a fixed price per page',
      'General counsel and procurement at software companies without a legal team of their own',
      'How many contracts do you sign a month? Who reviews them now?',
      ARRAY['Software']
    ),
    (
      4, 'Alpenglow Software', 'Time sheets that fill themselves in, for agencies',
      'Owners of agencies and consultancies with 10 to 250 employees',
      '["How do you track time?", "How many people bill by the hour?"]',
      ARRAY['Consulting', 'Consulting', 'Management consulting', 'Advertising']
    ),
    (
      5, 'Copperfield Staffing', 'Nurses and carers for clinics, within 48 hours',
      'Nursing directors of hospitals, clinics and care homes',
      'What shifts stay open?' || chr(10) || 'Which agencies do you work with?',
      ARRAY['Healthcare', 'Healthcare', 'Hospitals']
    ),
    (
      6, 'Solaris Roofing Partners', 'Solar roofs for warehouses and schools, paid from what they save',
      'Facility managers of factories and schools with a flat roof of more than 1,000 square metres', '[]',
      ARRAY['Manufacturing', 'Manufacturing', 'Education']
    ),
    (
      7, 'Quill & Anchor Media', 'A podcast a week, from script to release',
      'Marketing leaders at software and consulting companies', NULL,
      ARRAY['Software', 'Consulting']
    ),
    (8, 'Öresund Ventures', NULL, NULL, '', ARRAY['Finance', 'Software']),
    (9, 'Tamarack Test Workspace', NULL, NULL, NULL, ARRAY['Finance'])
) AS settings (n, name, service, profile, questions, industries);

INSERT INTO "Client" ("id", "name", "userId", "createdAt", "updatedAt")
SELECT
  id, name, pg_temp.digest('user', n)::UUID::TEXT,
  %(until)s - INTERVAL '2 years', %(until)s - INTERVAL '1 day' * n
FROM sample_client;

INSERT INTO "WorkspaceSettings" (
  "id", "clientId", "serviceDescription", "qualificationQuestions", "idealCustomerProfile", "companyName",
  "createdAt", "updatedAt"
)
SELECT
  pg_temp.id('settings', n), id, service, questions, profile, name,
  %(until)s - INTERVAL '2 years', %(until)s - INTERVAL '1 day' * n
FROM sample_client
WHERE n < 9;
