-- Reads a CSV file as a load would and shows what the reader sees.
-- source: the absolute path of a file of the server (needs pg_read_server_files), lo:OID of a
-- large object (needs the right to read it), or text: followed by the data themselves.
-- options: delimiter, quote, escape, stray_quotes, header, skip_lines, null, trim, encoding, max_field_bytes,
-- max_record_lines, max_records. record_no counts data from 1, header rows are 0 and below. A
-- record has cells or an error. Errors: OM001, OM006, OM007, 42501.
CREATE FUNCTION order_mgmt.read_csv(
    source text,
    options jsonb DEFAULT '{}'
)
RETURNS TABLE (
    record_no bigint,
    line_no bigint,
    cells text[],
    error text
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_read_csv';
COMMENT ON FUNCTION order_mgmt.read_csv(text, jsonb) IS
    'Shows what the CSV reader sees of a server file (absolute path), a large object (lo:OID) or data (text:...), plain, gzip or zstd: one row per record, header rows numbered 0 and below, with cells or an error. Errors: OM001, OM006, OM007, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.read_csv(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.read_csv(text, jsonb) TO order_mgmt_operator, order_mgmt_admin;
