-- Accounts: set, get, list, adjust, statement, delete.
BEGIN;
\ir helpers.psql
SELECT no_plan();

-- set_account: NULL keeps, '' clears, metadata replaces
SELECT is(rows_of($$SELECT customer_id, name, email, metadata, balance, reserved FROM order_mgmt.set_account('ann')$$),
    '(ann,,,{},0.0000,0.0000)', 'a new account has nothing');
SELECT is(rows_of($$SELECT name, email, metadata, balance FROM order_mgmt.set_account('ann', 12.5, 'Ann', 'a@x', '{"a": 1}')$$),
    '(Ann,a@x,"{""a"": 1}",12.5000)', 'everything set');
SELECT is(rows_of($$SELECT name, email, metadata, balance FROM order_mgmt.set_account('ann')$$),
    '(Ann,a@x,"{""a"": 1}",12.5000)', 'NULL keeps');
SELECT is(rows_of($$SELECT name, email, metadata, balance FROM order_mgmt.set_account('ann', name => '', metadata => '{"b": 2}')$$),
    '(,a@x,"{""b"": 2}",12.5000)', 'an empty string clears, metadata replaces');
SELECT is(rows_of($$SELECT name, email, metadata, balance FROM order_mgmt.set_account('ann', 0, email => '')$$),
    '(,,"{""b"": 2}",0.0000)', 'balance 0 is a balance, not nothing');
SELECT is(rows_of($$SELECT balance FROM order_mgmt.get_account('ann')$$), '(0.0000)', 'get_account()');
SELECT is_empty($$SELECT * FROM order_mgmt.get_account('nobody')$$, 'no row where there is none');
SELECT cmp_ok((SELECT updated_at FROM order_mgmt.get_account('ann')), '>', (SELECT created_at FROM order_mgmt.get_account('ann')),
    'a change moves updated_at');

SELECT is(error_of('SELECT order_mgmt.set_account(NULL)'), 'OM001 customer_id', 'customer NULL');
SELECT is(error_of($$SELECT order_mgmt.set_account('')$$), 'OM001 customer_id', 'customer empty');
SELECT is(error_of($$SELECT order_mgmt.set_account(repeat('x', 65))$$), 'OM001 customer_id', 'customer of 65 characters');
SELECT is(error_of($$SELECT order_mgmt.set_account('ann', -1)$$), 'OM001 balance', 'balance negative');
SELECT is(error_of($$SELECT order_mgmt.set_account('ann', 0.00001)$$), 'OM001 balance', 'balance with 5 decimals');
SELECT is(error_of($$SELECT order_mgmt.set_account('ann', 'NaN')$$), 'OM001 balance', 'balance NaN');
SELECT is(error_of($$SELECT order_mgmt.set_account('ann', 1e14)$$), 'OM001 balance', 'balance too large');
SELECT is(error_of($$SELECT order_mgmt.set_account('ann', 1e14 - 0.0001)$$), 'no error', 'the largest balance');
SELECT is(error_of($$SELECT order_mgmt.set_account('ann', metadata => '[]')$$), 'OM001 metadata', 'metadata no object');
SELECT is(error_of($$SELECT order_mgmt.set_account('eve', -1)$$) || (SELECT count(*) FROM order_mgmt.get_account('eve')),
    'OM001 balance0', 'what is refused leaves no account');
SELECT is(error_of('SELECT order_mgmt.get_account(NULL)'), 'OM001 customer_id', 'get_account of NULL');

-- adjust_balance
SELECT order_mgmt.set_account('bob', 10) \g /dev/null
SELECT is(order_mgmt.adjust_balance('bob', 2.5, 'refund'), 12.5, 'adjust_balance() returns the new balance');
SELECT is(order_mgmt.adjust_balance('bob', -12.5), 0.0, 'down to nothing');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance('bob', -0.0001)$$), 'OM005', 'but not below');
SELECT is(order_mgmt.adjust_balance('bob', 5, 'gift', 'k1'), 5.0, 'with a key');
SELECT is(order_mgmt.adjust_balance('bob', 1), 6.0, 'another one');
SELECT is(order_mgmt.adjust_balance('bob', 5, 'gift', 'k1'), 5.0, 'repeated it gives its first answer');
SELECT is(credit('bob'), '6/0', 'and changes nothing');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance('bob', 6, 'gift', 'k1')$$), 'OM002 idempotency_key', 'another amount with that key');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance('bob', 5, 'other', 'k1')$$), 'OM002 idempotency_key', 'another reason with that key');
SELECT is(order_mgmt.adjust_balance('ann', 0, 'gift', 'k1') IS NULL, false, 'the key of another customer is another');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance('nobody', 1)$$), 'OM004', 'no such account');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance('bob', NULL)$$), 'OM001 delta', 'delta NULL');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance('bob', 0.00001)$$), 'OM001 delta', 'delta with 5 decimals');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance('bob', 'Infinity')$$), 'OM001 delta', 'delta infinite');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance('bob', 99999999999999)$$), 'OM005', 'a balance out of range');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance(NULL, 1)$$), 'OM001 customer_id', 'customer NULL');

-- Held credit cannot be taken away
SET LOCAL order_mgmt.auto_ship = off;
SELECT order_mgmt.set_stock('p', 100) \g /dev/null
SELECT order_mgmt.capture_order('bob', lines('p', 2, 2)) AS held \gset
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(credit('bob'), '6/4', 'four of six are held');
SELECT is(error_of($$SELECT order_mgmt.adjust_balance('bob', -2.0001)$$), 'OM005', 'not below what is held');
SELECT is(error_of($$SELECT order_mgmt.set_account('bob', 3.9999)$$), 'OM005', 'nor by set_account()');
SELECT is(order_mgmt.adjust_balance('bob', -2), 4.0, 'down to what is held');
SELECT order_mgmt.ship_order(:'held') \g /dev/null
SELECT is(credit('bob'), '0/0', 'which is then spent');
SET LOCAL order_mgmt.auto_ship = on;

-- The statement adds up
SELECT order_mgmt.adjust_balance('bob', 7, 'top up') \g /dev/null
SELECT order_mgmt.capture_order('bob', lines('p', 1, 3)) \g /dev/null
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(rows_of($$SELECT kind, amount, balance_after, reason, order_id IS NOT NULL FROM order_mgmt.account_statement('bob')$$),
    '(adjustment,10.0000,10.0000,set_account,f) (adjustment,2.5000,12.5000,refund,f) (adjustment,-12.5000,0.0000,,f)'
    ' (adjustment,5.0000,5.0000,gift,f) (adjustment,1.0000,6.0000,,f) (adjustment,-2.0000,4.0000,,f)'
    ' (charge,-4.0000,0.0000,,t) (adjustment,7.0000,7.0000,"top up",f) (charge,-3.0000,4.0000,,t)',
    'every change of a balance, oldest first, with its reason or order');
SELECT is((SELECT sum(amount) FROM order_mgmt.account_statement('bob')), (SELECT balance FROM order_mgmt.get_account('bob')),
    'they add up to the balance');
SELECT is_empty($$SELECT * FROM (SELECT balance_after, sum(amount) OVER (ORDER BY event_id) AS running
    FROM order_mgmt.account_statement('bob')) AS s WHERE balance_after <> running$$, 'and each to the balance after it');
CREATE TABLE statement AS SELECT row_number() OVER () AS n, * FROM order_mgmt.account_statement('bob');
SELECT is(rows_of(format('SELECT event_id, balance_after FROM order_mgmt.account_statement(''bob'', after => %s, page_size => 2)',
    (SELECT event_id FROM statement WHERE n = 4))),
    (SELECT string_agg(format('(%s,%s)', event_id, balance_after), ' ' ORDER BY n) FROM statement WHERE n IN (5, 6)),
    'a page of it goes on after an event');
SELECT is(rows_of(format('SELECT event_id FROM order_mgmt.account_statement(''bob'', since => %L, until => %L)',
    (SELECT at FROM statement WHERE n = 3), (SELECT at FROM statement WHERE n = 5))),
    (SELECT string_agg(format('(%s)', event_id), ' ' ORDER BY n) FROM statement WHERE n IN (3, 4)),
    'since is included, until is not');
SELECT is((SELECT balance_after FROM order_mgmt.account_statement('bob', until => (SELECT at FROM statement WHERE n = 3))
    ORDER BY event_id DESC LIMIT 1), 12.5, 'what comes later does not change what was');
SELECT is_empty($$SELECT * FROM order_mgmt.account_statement('nobody')$$, 'nobody has no statement');
SELECT is(error_of('SELECT order_mgmt.account_statement(NULL)'), 'OM001 customer_id', 'customer NULL');
SELECT is(error_of($$SELECT order_mgmt.account_statement('bob', page_size => 0)$$), 'OM001 page_size', 'page of 0');

-- list_accounts
SELECT count(*) FROM unnest('{Zoe,abe,Émile}'::text[]) AS c, order_mgmt.set_account(c) \g /dev/null
SELECT is(rows_of('SELECT customer_id FROM order_mgmt.list_accounts()'), '(Zoe) (abe) (ann) (bob) (Émile)', 'in order of bytes');
SELECT is(rows_of($$SELECT customer_id FROM order_mgmt.list_accounts('abe', 2)$$), '(ann) (bob)', 'a page');
SELECT is_empty($$SELECT * FROM order_mgmt.list_accounts('Émile')$$, 'after the last');
SELECT is(error_of('SELECT order_mgmt.list_accounts(page_size => 10001)'), 'OM001 page_size', 'page too large');

-- delete_account
SELECT order_mgmt.set_account('gus', 20, 'Gus', 'g@x', '{"vip": true}') \g /dev/null
SELECT order_mgmt.capture_order('gus', lines('p', 1, 3), order_ref => 'r', metadata => '{"ship_to": "Gus, Main St 1"}') AS id \gset
SELECT is(error_of($$SELECT order_mgmt.delete_account('gus')$$), 'OM005', 'refused while an order is under way');
SET LOCAL order_mgmt.auto_ship = off;
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(error_of($$SELECT order_mgmt.delete_account('gus')$$), 'OM005', 'also when it is confirmed');
SELECT order_mgmt.cancel_order(:'id', 'never mind') \g /dev/null
SELECT is(error_of($$SELECT order_mgmt.delete_account('gus')$$), 'OM005', 'and while a hold has not come back');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(order_mgmt.delete_account('gus'), true, 'deleted');
SELECT is_empty($$SELECT * FROM order_mgmt.get_account('gus')$$, 'gone');
SELECT is_empty($$SELECT * FROM order_mgmt.orders WHERE orders::text ~* 'main st|vip'$$, 'no personal data in orders');
SELECT is_empty($$SELECT * FROM order_mgmt.events WHERE events::text ~* 'main st|g@x|vip'$$, 'nor in events');
SELECT is(order_mgmt.get_order(:'id')->>'total', '3.0000', 'the order is still there');
SELECT is((SELECT string_agg(kind || ' ' || trim_scale(amount), ', ') FROM order_mgmt.account_statement('gus')),
    'adjustment 20, adjustment -20', 'and so is the history of the balance, which ends at nothing');
SELECT is(error_of($$SELECT order_mgmt.delete_account('gus')$$), 'OM004', 'no such account any more');
SELECT is(error_of('SELECT order_mgmt.delete_account(NULL)'), 'OM001 customer_id', 'customer NULL');
SELECT is((SELECT balance FROM order_mgmt.set_account('gus', 5)), 5.0, 'a new account of that name begins anew');
SELECT is((SELECT sum(amount) FROM order_mgmt.account_statement('gus')), 5.0, 'and its statement still adds up');

SELECT invariants_hold();
SELECT finish();
ROLLBACK;
