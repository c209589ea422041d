-- read_csv: the options of a dialect, each trap of CSV files, and what follows a bad record.
BEGIN;
\ir helpers.psql
SELECT no_plan();

-- The records of some bytes, one a line: number, first line, cells or error. Large objects take bytes that no text has.
CREATE FUNCTION csv(data bytea, options jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id oid := lo_from_bytea(0, data);
    answer text;
BEGIN
    SELECT string_agg(concat(record_no, '@', line_no, ' ', coalesce(cells::text, error)), E'\n' ORDER BY n) INTO answer
    FROM order_mgmt.read_csv('lo:' || id, options) WITH ORDINALITY AS r(record_no, line_no, cells, error, n);
    PERFORM lo_unlink(id);
    RETURN coalesce(answer, 'nothing');
END
$$;
CREATE FUNCTION csv(data text, options jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT csv(convert_to(data, 'UTF8'), options)
$$;
-- How many records there are, and how many of them are bad.
CREATE FUNCTION tally(data text, options jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT count(*) || '/' || count(error) FROM order_mgmt.read_csv('text:' || data, options)
$$;
CREATE FUNCTION refused(options jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT error_of(format('SELECT * FROM order_mgmt.read_csv(''text:a'', %L)', options))
$$;

-- header, numbering
SELECT is(csv(E'a,b\n1,2\n3,4\n'), E'0@1 {a,b}\n1@2 {1,2}\n2@3 {3,4}', 'one header row');
SELECT is(csv(E'a,b\n1,2\n', '{"header": 0}'), E'1@1 {a,b}\n2@2 {1,2}', 'none');
SELECT is(csv(E'a,b\nx,y\n1,2\n', '{"header": 2}'), E'-1@1 {a,b}\n0@2 {x,y}\n1@3 {1,2}', 'two');
SELECT is(csv(E'a,b\n1,2', '{"header": 1}'), E'0@1 {a,b}\n1@2 {1,2}', 'no line end at the end');
SELECT is(csv(''), 'nothing', 'nothing');
SELECT is(csv(E'a,b\n'), '0@1 {a,b}', 'header only');
SELECT is(csv(E'Export of "today\n\na,b\n1,2\n', '{"skip_lines": 2}'), E'0@3 {a,b}\n1@4 {1,2}', 'lines before the header, whatever they are');
SELECT is(csv(E'a,b\n', '{"skip_lines": 5}'), 'nothing', 'more lines to skip than there are');
SELECT is(csv(E'a,b\n1,2\n3,4\n', '{"max_records": 2}'), E'0@1 {a,b}\n1@2 {1,2}', 'the first records only');

-- delimiter, quote, escape
SELECT is(csv(E'a;b,c\n', '{"delimiter": ";"}'), '0@1 {a,"b,c"}', 'semicolons');
SELECT is(csv(E'a\tb c\n', '{"delimiter": "\t"}'), '0@1 {a,"b c"}', 'a tab');
SELECT is(csv(E'a\t\tb\t\n', '{"delimiter": "tab", "trim": true}'), '0@1 {a,NULL,b,NULL}', 'tabs are no blanks then');
SELECT is(csv(E'a  b\n', '{"delimiter": " "}'), '0@1 {a,NULL,b}', 'nor are blanks');
SELECT is(csv(E'\'a,b\',c"d\n', '{"quote": "''"}'), '0@1 {"a,b","c\"d"}', 'another quote');
SELECT is(csv(E'"a,b"\n', '{"quote": ""}'), E'0@1 {"\\"a","b\\""}', 'no quotes');
SELECT is(csv(E'"a""b","""",""\n'), '0@1 {"a\"b","\"",""}', 'doubled quotes');
SELECT is(csv($$"a\"b","\\",c\d,"e\f","g""h"$$, '{"escape": "\\"}'), $$0@1 {"a\"b","\\","c\\d","e\\f","g\"h"}$$, 'a backslash escapes quotes and itself, inside quotes');
SELECT is(csv(E'"a\\"\nb","c\\\\"\n1,2\n', '{"escape": "\\"}'), E'0@1 {"a\\"\nb","c\\\\"}\n1@3 {1,2}', 'over lines');
SELECT is(csv(E'"a^"b"\n', '{"escape": "^"}'), '0@1 {"a\"b"}', 'another escape');

-- NULL
SELECT is(csv(E'a,,"",NULL\n'), '0@1 {a,NULL,"","NULL"}', 'an unquoted nothing is NULL');
SELECT is(csv(E'NULL,,"NULL","",x\n', '{"null": "NULL"}'), '0@1 {NULL,"","NULL","",x}', 'a word is, unquoted');
SELECT is(csv(E'"a""b" ,NULL,"NULL" , "NULL",NULL\n', '{"null": "NULL", "trim": true}'), E'0@1 {"a\\"b",NULL,"NULL","NULL",NULL}', 'told from quoted ones everywhere');
SELECT is(csv(E'"x\ny","NULL",NULL\n"\\N",\\N\n', '{"null": "\\N"}'), E'0@1 {"x\ny","NULL","NULL"}\n1@3 {"\\\\N",NULL}', 'and behind cells of several lines');
SELECT is(csv(E'a,\n', '{"null": null}'), '0@1 {a,""}', 'nothing is');

-- blanks
SELECT is(csv(E' a , b\t, "c"\n'), E'0@1 a quote stands inside the unquoted cell 3', 'blanks are data, so a quote behind one is in a cell');
SELECT is(csv(E' a , b\t,c \n'), E'0@1 {" a "," b\t","c "}', 'at the edges too');
SELECT is((SELECT string_agg(n::text, ' ') FROM generate_series(1, 50) AS n, order_mgmt.read_csv('text:' || repeat('x', n) || ' ,y,' || repeat('z', n))
    WHERE cells IS DISTINCT FROM ARRAY[repeat('x', n) || ' ', 'y', repeat('z', n)]), NULL, 'before a delimiter anywhere in a line');
SELECT is((SELECT string_agg(n::text, ' ') FROM generate_series(1, 50) AS n, order_mgmt.read_csv('text:' || repeat('x', n) || ',	y,' || repeat('z', n))
    WHERE cells IS DISTINCT FROM ARRAY[repeat('x', n), '	y', repeat('z', n)]), NULL, 'behind one');
SELECT is((SELECT string_agg(n::text, ' ') FROM generate_series(1, 50) AS n, order_mgmt.read_csv(E'text:a\n' || repeat('x', n) || E'\ry,' || repeat('z', n))
    WHERE record_no = 1 AND cells IS DISTINCT FROM ARRAY[repeat('x', n) || E'\ry', repeat('z', n)]), NULL, 'a CR anywhere');
SELECT is(csv(E' a , b\t, " c " ,  \n', '{"trim": true}'), '0@1 {a,b," c ",NULL}', 'trimmed, except in quotes');
SELECT is(csv(E'"a" ,"b"\t\n'), '0@1 {a,b}', 'blanks behind a closing quote are nobody''s');

-- line ends
SELECT is(csv(E'a,b\r\n1,2\r\n'), E'0@1 {a,b}\n1@2 {1,2}', 'CR LF');
SELECT is(csv(E'a,b\r1,2\r'), E'0@1 {a,b}\n1@2 {1,2}', 'CR only');
SELECT is(csv(repeat(E'a,b\r', 50000) || E'1\n2,3\n\r', '{"skip_lines": 50000, "header": 0}') = E'1@50001 {"1\n2","3\n"}', true, 'an LF is data where the lines before end with CR');
SELECT is(csv(E'a,b\n1\r,2\r\n3,4\n'), E'0@1 {a,b}\n1@2 {"1\r",2}\n2@3 {3,4}', 'a lone CR is data');
SELECT is(csv(E'"a\r\nb",c\n"1\n2",3\n'), E'0@1 {"a\r\nb",c}\n1@3 {"1\n2",3}', 'those inside quotes stay as they are, and count');
SELECT is(csv(E'a,b\n\n\n1,2\n\r\n3,4\n\n'), E'0@1 {a,b}\n1@4 {1,2}\n2@6 {3,4}', 'blank lines are passed over, and count');
SELECT is(csv(E'a\n\n1\n\n'), E'0@1 {a}\n1@2 {NULL}\n2@3 {1}\n3@4 {NULL}', 'in a file of one column they are records');
SELECT is(csv(E'\n\n', '{"null": null, "header": 0}'), E'1@1 {""}\n2@2 {""}', 'also where there is nothing else');
SELECT is(csv(E'\n\na,b\n\n1,2\n'), E'0@3 {a,b}\n1@5 {1,2}', 'the first line need not tell');
SELECT is(csv(E'a,b\n \n1,2\n', '{"trim": true}'), E'0@1 {a,b}\n1@3 {1,2}', 'a line of blanks is blank, trimmed');

-- quotes where they should not be
SELECT is(csv(E'a,5" pipe\n1,2\n'), E'0@1 a quote stands inside the unquoted cell 2\n1@2 {1,2}', 'a quote inside a cell');
SELECT is(csv(E'a,5" pipe,"x", "b" \n', '{"stray_quotes": "keep"}'), E'0@1 {a,"5\\" pipe",x," \\"b\\" "}', 'kept');
SELECT is(csv(E'"a"b,c\n1,2\n', '{"stray_quotes": "keep"}'), E'0@1 text stands behind the closing quote of cell 1\n1@2 {1,2}', 'text behind a closing quote is never kept');
SELECT is(csv(E'a,b\n"1,2\n3,4\n5,6\n'), E'0@1 {a,b}\n1@2 a quote is never closed\n2@3 {3,4}\n3@4 {5,6}', 'an unclosed quote costs one line');
SELECT is(csv(E'a,b\n"1,2\n3,4\n"5",6\n7,8\n'),
    E'0@1 {a,b}\n1@2 text stands behind the closing quote of cell 1\n2@3 {3,4}\n3@4 {5,6}\n4@5 {7,8}', 'also before another quote');
SELECT is(csv(E'"a\n"b\n"c'), E'0@1 text stands behind the closing quote of cell 1\n1@2 text stands behind the closing quote of cell 1\n2@3 a quote is never closed',
    'each line by itself');
SELECT is(csv(E'a,"1\n2\n3"\nb,"1\n2\n3\n4"\nc,d\n', '{"max_record_lines": 3, "header": 0}'),
    E'1@1 {a,"1\n2\n3"}\n2@4 a quote is not closed within max_record_lines (3)\n3@5 {2}\n4@6 {3}\n5@7 a quote stands inside the unquoted cell 1\n6@8 {c,d}',
    'a record has so many lines at most');

-- lengths
SELECT is(csv(E'a,b\n1234,"12345"\n123456,1\n1,2\n', '{"max_field_bytes": 5}'),
    E'0@1 {a,b}\n1@2 {1234,12345}\n2@3 cell 1 has 6 bytes, more than max_field_bytes (5)\n3@4 {1,2}', 'a cell has so many bytes at most');
SELECT is(csv('a,b' || E'\n' || repeat('x', 70000) || E'\n1,2\n', '{"max_field_bytes": 5}'),
    E'0@1 {a,b}\n1@2 the line is longer than 65536 bytes\n2@3 {1,2}', 'a line too');
SELECT is(tally(E'a,b\n' || repeat('x', 1000000) || E'\n' || repeat('y', 1048577) || E'\n1,2\n'), '4/1', '1 MB by default');
SELECT is(csv(E'a,"' || repeat(E'xxxxxxxxx\n', 7000) || E'1,2\n', '{"max_record_lines": 1000000, "max_field_bytes": 5, "max_records": 1}'),
    '0@1 a quote is not closed within 65536 bytes', 'and a record of lines');
SELECT is(csv(repeat(',', 9999) || E'\n' || repeat(',', 10000) || E'\n1,2\n', '{"max_records": 2}') ~ E'\n1@2 the record has more than 10000 cells$', true, '10000 cells');
SELECT is((SELECT count(*) || ' ' || sum(cardinality(cells)) FROM order_mgmt.read_csv('text:' || repeat(E'1,"2\n""",äöü,\n', 100000))), '100000 400000',
    'records are put together across blocks');

-- encodings
SELECT is(csv('\xefbbbf612c620a312c320a'::bytea), E'0@1 {a,b}\n1@2 {1,2}', 'a byte order mark is no data');
SELECT is(csv('\xefbbbf22612c622c220a'::bytea), E'0@1 {"a,b,"}', 'nor is it before a quote');
SELECT is(csv('\x612c620a31ff2c320ac3a42c340a'::bytea), E'0@1 {a,b}\n1@2 byte 2 of line 2 is no character of encoding UTF8: ff 2c 32\n2@3 {ä,4}', 'a bad byte costs its record');
SELECT is(csv('\x612c620a22310a78ff222c330a312c320a'::bytea), E'0@1 {a,b}\n1@2 byte 2 of line 3 is no character of encoding UTF8: ff 22 2c 33\n2@4 {1,2}', 'as a whole');
SELECT is(csv('\x612c620a3100322c330a342c350a'::bytea), E'0@1 {a,b}\n1@2 byte 2 of line 2 is a NUL byte\n2@3 {4,5}', 'a NUL byte too');
SELECT is(csv('\x612c620ae42c330a'::bytea, '{"encoding": "latin1"}'), E'0@1 {a,b}\n1@2 {ä,3}', 'converted');
SELECT is(csv('\x612c620a22e40ae9222c4e554c4c0a'::bytea, '{"encoding": "LATIN1", "null": "NULL"}'), E'0@1 {a,b}\n1@2 {"ä\né",NULL}', 'over lines');
SELECT is(csv('\x6180810a62620a'::bytea, '{"encoding": "win1252", "header": 0}'), E'1@1 byte 3 of line 1 is no character of encoding WIN1252: 81\n2@2 {bb}', 'what has no meaning there');
SELECT is(csv(convert_to(E'ポ|ソ\n', 'SJIS'), '{"encoding": "SJIS", "delimiter": "|"}'), '0@1 {ポ,ソ}', 'bytes that look like delimiters are none');
SELECT is(csv(convert_to(E'"ソ\\"",ソ\n', 'SJIS'), '{"encoding": "SJIS", "escape": "\\"}'), '0@1 {"ソ\"",ソ}', 'nor escapes');
SELECT is(error_of($$SELECT csv('\xfffe61000a00'::bytea)$$), 'OM007', 'UTF-16 with its mark');
SELECT is(error_of($$SELECT csv('\xfeff0061000a'::bytea)$$), 'OM007', 'of the other kind');
SELECT is(error_of($$SELECT csv('\xfffe00006100000a000000'::bytea)$$), 'OM007', 'UTF-32');
SELECT is(error_of($$SELECT csv('\x610062002c00630064000a00'::bytea)$$), 'OM007', 'UTF-16 without');
SELECT is(error_of($$SELECT csv('\x00610062002c00630064000a'::bytea)$$), 'OM007', 'of the other kind, too');
SELECT is(error_of($$SELECT csv('\xefbbbf61'::bytea, '{"encoding": "LATIN1"}')$$), 'OM007', 'a mark that contradicts');

-- options are checked by name
SELECT is(refused(options), 'OM001 options.' || key, 'refused: ' || options::text)
FROM (VALUES ('delimiter', '""'), ('delimiter', '"ab"'), ('delimiter', '"ä"'), ('delimiter', '"\n"'), ('delimiter', '1'), ('quote', '","'),
    ('quote', '"ab"'), ('quote', '" "'), ('quote', '"\r"'), ('quote', 'true'), ('escape', '","'), ('escape', '"\t"'), ('escape', '[]'),
    ('header', '-1'), ('header', '101'), ('header', '1.5'), ('header', '"1"'), ('header', 'true'), ('skip_lines', '-1'), ('skip_lines', '1e6001'),
    ('null', '1'), ('trim', '"yes"'), ('trim', '1'), ('encoding', '"latin99"'), ('encoding', '1'), ('max_field_bytes', '0'),
    ('max_field_bytes', '16777217'), ('max_record_lines', '0'), ('stray_quotes', '"ignore"'), ('stray_quotes', 'false'), ('max_records', '-1'),
    ('max_records', '"1"'), ('headers', '1'), ('', '1')) AS t(key, value), jsonb_build_object(key, value::jsonb) AS options;
SELECT is(refused(jsonb_build_object('null', repeat('x', 101))), 'OM001 options.null', 'refused: a long word for NULL');
SELECT is(refused('[]'), 'OM001 options', 'refused: no object');
SELECT is(refused(NULL), 'no error', 'NULL are no options');
SELECT is(refused('{"delimiter": null, "quote": null, "escape": null, "header": null, "trim": null, "encoding": null, "max_records": null}'), 'no error', 'null is an option left out');
SELECT throws_like($$SELECT * FROM order_mgmt.read_csv('text:a', '{"delimiter": "ab"}')$$, '%options.delimiter is not one ASCII character%', 'the message says which');

-- sources
SELECT is(error_of($$SELECT * FROM order_mgmt.read_csv(NULL)$$), 'OM001 source', 'no source');
SELECT is(error_of(format('SELECT * FROM order_mgmt.read_csv(%L)', source)), 'OM001 source', source)
FROM unnest('{lo:,lo:x,lo:-1,lo:0,lo:1x,lo:4294967296}'::text[]) AS source;
SELECT is(error_of($$SELECT * FROM order_mgmt.read_csv('lo:4294967295')$$), 'OM007', 'a large object that is not there');
SELECT is(error_of(format('SELECT * FROM order_mgmt.read_csv(%L)', source)), 'OM007', source)
FROM unnest('{"",orders.csv,./orders.csv,/no/such/file,/etc/passwd/x,/tmp,/dev/null,LO:1}'::text[]) AS source;


SELECT finish();
ROLLBACK;
