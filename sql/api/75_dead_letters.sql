-- Hands events that a consumer has given up to it again: all of a consumer ('*': of every one), or
-- those of them with these ids. An order that failed is captured anew for both checks. Returns how
-- many were taken up; those whose order still has its other check under way are left for later.
CREATE FUNCTION order_mgmt.replay_dead_letters(
    consumer text,
    dead_letter_ids bigint[] DEFAULT NULL
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_replay_dead_letters';
COMMENT ON FUNCTION order_mgmt.replay_dead_letters(text, bigint[]) IS
    'Tries dead letters of a consumer (''*'': of all) again, all or those with these ids; returns how many were taken up. Errors: OM001, OM004 (no such consumer), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.replay_dead_letters(text, bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.replay_dead_letters(text, bigint[]) TO order_mgmt_operator;

-- The same for one dead letter. False: its order has ended otherwise meanwhile, and it is removed.
CREATE FUNCTION order_mgmt.replay_dead_letter(
    dead_letter_id bigint
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_replay_dead_letter';
COMMENT ON FUNCTION order_mgmt.replay_dead_letter(bigint) IS
    'Tries a dead letter again; false when its order has ended otherwise. Errors: OM001, OM004, OM005 (the other check of the order is still under way; its consumer or order is no more), OM006.';
REVOKE ALL ON FUNCTION order_mgmt.replay_dead_letter(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.replay_dead_letter(bigint) TO order_mgmt_operator;

-- Throws dead letters away. The orders they are about get a note with the reason.
CREATE FUNCTION order_mgmt.discard_dead_letters(
    dead_letter_ids bigint[],
    reason text
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_discard_dead_letters';
COMMENT ON FUNCTION order_mgmt.discard_dead_letters(bigint[], text) IS
    'Removes dead letters for good; their orders get a note with the reason. Returns how many there were. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.discard_dead_letters(bigint[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.discard_dead_letters(bigint[], text) TO order_mgmt_operator;
