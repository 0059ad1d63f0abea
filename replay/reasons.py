"""What the words mean that dropped indications, changed decisions and their outcomes are counted by.

    explain("guarded", "clamped")   # "outside the MCS range or offset allowed: set to its edge"

The groups are those of summary.json; the words are those of `distila.xapp.e2.codec`, `distila.xapp.e2.inbox`,
`distila.xapp.loop`, `distila.xapp.policy.guard`, `distila.xapp.e2.grpc_client`, `distila.xapp.e2.rmr_transport` and
`distila.replay.du`.
"""

from typing import Final, Literal

Group = Literal["dropped", "guarded", "noticed", "outcomes", "lost"]

REASONS: Final[dict[Group, dict[str, str]]] = {
    "dropped": {
        "duplicate": "the same sequence number came twice",
        "encoding": "the envelope names an encoding other than protobuf",
        "internal_error": "the xApp failed on it; its log holds the traceback",
        "malformed_header": "the indication header is not valid protobuf",
        "malformed_message": "the indication message is not valid protobuf",
        "no_cell_id": "the header does not say which cell it is from",
        "no_ue": "it holds no UE that can be decided on",
        "overtaken": "not sent before a newer one was there: the wire or the xApp is too slow for the report period",
        "out_of_order": "older than one that was already decided on",
        "not_subscribed": "of a cell that the xApp did not subscribe to",
        "oversized": "longer than any message that passes an E2 termination",
        "service_model": "another service model, or another major version of ours",
        "malformed_e2ap": "not an E2AP PDU, or one without what it must have",
        "not_an_indication": "an E2AP PDU that is no RICindication where one was announced",
        "stopping": "the xApp was about to end",
        "unknown_subscription": "of a subscription that is not ours, or no more",
        "superseded": "a newer one of the same cell came before it was its turn",
        "too_many_cells": "more cells waiting than the inbox holds",
        "too_many_ues": "more UEs than the loop has memory for",
    },
    "guarded": {
        "breaker": "held on the DU's own choice after too many failed first transmissions",
        "breaker_tripped": "how often a UE's breaker tripped and began such a hold",
        "clamped": "outside the MCS range or offset allowed: set to its edge",
        "deadline": "the decision took too long: the whole indication left to the DU",
        "mcs_table": "the UE uses an MCS table that the policy was not made for: left to the DU",
        "no_measurement": "neither channel quality nor HARQ feedback was reported: left to the DU",
        "not_finite": "the policy gave a score that is not a number: left to the DU",
        "switched_off": "an operator has switched the xApp off in this cell: left to the DU",
        "stale_cqi": "the CQI was too old and nothing else was measured: left to the DU",
    },
    "noticed": {
        "kpi_missing_prbs": "unit intervals that count for no goodput per PRB: the node does not say how many PRBs",
        "reports_not_counted": "reports that the account of a rollout had no room for",
        "shadow_failed": "a shadow arm failed on it; what was sent is not touched",
        "cell_evicted": "a cell was forgotten to make room for another",
        "harq_feedback_missed": "first transmissions that the running total counts but no report described",
        "indications_missed": "gaps in the sequence numbers: sent by the node, never seen",
        "invalid_harq": "HARQ entries that make no sense: ignored",
        "node_restart": "the sequence began anew: the E2 node restarted",
        "harq_beyond_total": "first transmissions that a report describes beyond the running total",
        "harq_without_mcs": "feedback in a log that does not say at which MCS: left out",
        "invalid_cqi_table": "a CQI table that does not exist: the CQI taken as not measured",
        "invalid_mcs_table": "an MCS table that does not exist: the UE left to the DU",
        "invalid_sfn_or_slot": "a frame or slot number that does not exist: repeated in the answer, not used",
        "invalid_harq_total": "a running total too large to be one: taken as not measured",
        "invalid_period": "a report period of more than a million slots: taken as one slot",
        "state_not_finite": "a UE's memory was no longer a number and was cleared",
        "time_backwards": "the node's clock was set back",
        "ue_counter_restart": "a UE's total fell: a new UE on an old RNTI; its memory was cleared",
        "ue_duplicate": "a UE listed twice in one report: the second entry left out",
        "ue_evicted": "a UE was forgotten to make room for another",
        "ue_invalid_id": "a UE left out because its id is out of range",
        "ue_invalid_rnti": "a UE left out because its RNTI is out of range",
        "ue_new": "a UE seen for the first time",
    },
    "outcomes": {
        "accepted": "taken over by the E2 node",
        "applied": "EdgeRIC's gNB scheduled the UE with it",
        "expired": "arrived after the time it was valid for",
        "malformed": "the node could not read the message",
        "mcs_out_of_range": "not in the UE's MCS table, or more than the node allows",
        "not_applied": "EdgeRIC's gNB scheduled the UE with another MCS: a retransmission, or it does not obey",
        "not_ready": "the node had no time for it",
        "offset_without_native": "an offset where the gNB's own choice was not known: left to the gNB",
        "service_model_not_supported": "the node speaks another service model or version",
        "stale": "answers an older indication than one already answered",
        "unknown_cause": "a cause that this version does not know",
        "unknown_cell": "the node does not have this cell",
        "unknown_ue": "the UE is gone, or never was",
        "unspecified": "the node gave no cause",
    },
    "lost": {
        "internal_error": "a message that the transport failed on; its log holds the traceback",
        "control_expired": "answers a TTI that is too long ago for EdgeRIC's gNB to apply it: not sent",
        "answer_malformed_e2ap": "an answer to a control request that is not an E2AP PDU",
        "answer_not_a_control_answer": "an E2AP PDU that is no answer to a control request where one was announced",
        "answer_oversized": "an answer to a control request longer than any that passes an E2 termination",
        "answer_unmatched": "an answer to a control request that was not sent, or was given up",
        "control_not_acknowledged": "a control request that the node did not answer in time",
        "handler_failed": "a message over RMR that the xApp failed on; its log holds the traceback",
        "rmr_queue_full": "messages that librmr dropped because its own queue was full",
        "unknown_message_type": "a message over RMR that the xApp has no use for",
        "control_not_sent": "a control message for a connection that was gone",
        "control_queue_full": "a control message not sent: too many were waiting",
        "duplicate_tti": "EdgeRIC telemetry of the same TTI again",
        "harq_without_mcs": "feedback in EdgeRIC telemetry to a transmission that was not seen",
        "malformed_metrics": "EdgeRIC telemetry that is not valid protobuf",
        "telemetry_silent": "EdgeRIC telemetry stayed away: the gNB is gone, or publishes elsewhere",
        "malformed_outcome": "the node's outcome is not valid protobuf",
        "stream_ended": "the node ended the subscription and it was renewed",
        "encoding": "a control message in an encoding other than protobuf",
        "malformed_control": "a control message that is not valid protobuf",
        "service_model": "a control message of another service model",
        "unanswered": "a report to which no decision came in time",
    },
}
"""One line on every reason that loop, guard, inbox, transport and DU count by, in the groups of summary.json."""

_PREFIXES: Final = {
    "invalid_": "reported {} out of range: taken as not measured",
    "rmr_": "a message over RMR that was not sent or not received ({}; see rmr.h)",
    "connection_": "the connection to the node broke ({}) and was set up again",
}


def explain(group: Group, reason: str) -> str:
    """One line on a reason of a group; empty if it is not known."""
    known = REASONS.get(group, {}).get(reason)
    if known is not None:
        return known
    return next((text.format(reason.removeprefix(p)) for p, text in _PREFIXES.items() if reason.startswith(p)), "")
