"""One line on every reason by which the xApp and the DU stand-in count: dropped, changed, noticed, lost.

    explain("guarded", "clamped")   # "outside the MCS range or offset allowed: set to its edge"

The groups are those of summary.json; ``withheld`` there has the reasons of ``guarded`` and ``outcomes`` too. A test
finds every reason that the code counts, f-strings included, and fails where one has no line here.
"""

from dataclasses import dataclass
from typing import Final, Literal

Group = Literal["dropped", "guarded", "noticed", "outcomes", "lost", "withheld"]

REASONS: Final[dict[Group, dict[str, str]]] = {
    "dropped": {
        "duplicate": "the same sequence number was received twice",
        "encoding": "the envelope names an encoding other than protobuf",
        "internal_error": "the xApp failed on it; its log holds the traceback",
        "malformed_header": "the indication header is not valid protobuf",
        "malformed_message": "the indication message is not valid protobuf",
        "no_cell_id": "the header does not say which cell it is from",
        "no_ue": "it holds no UE that can be decided on",
        "overtaken": "a newer one was ready before it was sent: the wire or the xApp is too slow for the report period",
        "out_of_order": "older than one that was already decided on",
        "not_subscribed": "of a cell that the xApp did not subscribe to",
        "oversized": "longer than any message that an E2 termination forwards",
        "service_model": "another service model, or another major version of ours",
        "malformed_e2ap": "not an E2AP PDU, or one without a mandatory field",
        "not_an_indication": "an E2AP PDU of another kind in a message of the type RICindication",
        "stopping": "the xApp was shutting down",
        "unknown_subscription": "of a subscription that the xApp does not have, or no longer has",
        "superseded": "a newer one of the same cell arrived before it was decided on",
        "too_many_cells": "more cells were waiting than the inbox holds",
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
        "kpi_missing_prbs": "unit intervals left out of goodput per PRB: the node does not report the number of PRBs",
        "reports_not_counted": "reports that a rollout could not count: its queue was full",
        "shadow_failed": "a shadow arm failed on it; the decisions sent are not affected",
        "cell_evicted": "the state of a cell was deleted to make room for another cell",
        "harq_feedback_missed": "first transmissions in the running total that no report contained",
        "indications_missed": "gaps in the sequence numbers: sent by the node, never received",
        "invalid_harq": "HARQ entries with an unknown UE or MCS, or a negative count: ignored",
        "node_restart": "the sequence numbers started again: the E2 node restarted",
        "harq_beyond_total": "first transmissions in a report beyond the running total",
        "harq_without_mcs": "HARQ feedback in a log without its MCS: left out",
        "invalid_cqi_table": "a CQI table that does not exist: the CQI taken as not measured",
        "invalid_mcs_table": "an MCS table that does not exist: the UE left to the DU",
        "invalid_sfn_or_slot": "a frame or slot number that does not exist: copied into the answer, not used",
        "invalid_harq_total": "a running total that is too large: taken as not measured",
        "invalid_period": "a report period of more than a million slots: taken as one slot",
        "state_not_finite": "a UE's memory was no longer a number and was cleared",
        "time_backwards": "the node's clock was set back",
        "ue_counter_restart": "a UE's running total fell: a new UE on an old RNTI; its memory was cleared",
        "ue_duplicate": "a UE listed twice in one report: the second entry left out",
        "ue_evicted": "the state of a UE was deleted to make room for another UE",
        "ue_invalid_id": "a UE left out because its id is out of range",
        "ue_invalid_rnti": "a UE left out because its RNTI is out of range",
        "ue_new": "a UE seen for the first time",
    },
    "outcomes": {
        "accepted": "accepted by the E2 node",
        "applied": "EdgeRIC's gNB scheduled the UE with it",
        "expired": "arrived after the time it was valid for",
        "malformed": "the node could not read the message",
        "mcs_out_of_range": "not in the UE's MCS table, or more than the node allows",
        "not_applied": "EdgeRIC's gNB scheduled the UE with another MCS: a retransmission, or the override was ignored",
        "not_ready": "the node was not ready to handle it",
        "offset_without_native": "an offset where the gNB's own choice was not known: left to the gNB",
        "service_model_not_supported": "the node speaks another service model or version",
        "stale": "answers an older indication than one already answered",
        "unknown_cause": "a cause that this version does not know",
        "unknown_cell": "the node does not have this cell",
        "unknown_ue": "the UE has left, or never existed",
        "unspecified": "the node gave no cause",
    },
    "lost": {
        "internal_error": "a message that the transport failed on; its log holds the traceback",
        "control_expired": "for a TTI too long ago for EdgeRIC's gNB to apply it: not sent",
        "answer_malformed_e2ap": "an answer to a control request that is not an E2AP PDU",
        "answer_not_a_control_answer": "an E2AP PDU of another kind where an answer to a control request belongs",
        "answer_oversized": "an answer to a control request longer than any that an E2 termination forwards",
        "answer_unmatched": "an answer to a control request that was not sent, or for which the wait was over",
        "control_not_acknowledged": "a control request that the node did not answer in time",
        "handler_failed": "a message over RMR that the xApp failed on; its log holds the traceback",
        "rmr_queue_full": "messages that librmr dropped because its own queue was full",
        "unknown_message_type": "a message over RMR of a type that the xApp does not handle",
        "control_not_sent": "a control message for a connection that was closed",
        "control_queue_full": "a control message not sent: too many were waiting",
        "duplicate_tti": "EdgeRIC telemetry of the same TTI again",
        "harq_without_mcs": "HARQ feedback in EdgeRIC telemetry for a transmission that was not reported",
        "malformed_metrics": "EdgeRIC telemetry that is not valid protobuf",
        "telemetry_silent": "no EdgeRIC telemetry for a while: the gNB has stopped, or publishes elsewhere",
        "malformed_outcome": "the node's outcome is not valid protobuf",
        "stream_ended": "the node ended the subscription and it was renewed",
        "encoding": "a control message in an encoding other than protobuf",
        "not_a_control_request": "an E2AP PDU of another kind where a control request belongs",
        "malformed_control": "a control message that is not valid protobuf",
        "service_model": "a control message of another service model",
        "unanswered": "a report that was not answered in time",
    },
    "withheld": {
        "not_known": "the xApp left the UE to the DU; it was started by hand and printed its own counters",
        "policy_native": "the policy itself left the UE to the DU",
        "unanswered": "no decision for the UE arrived: the indication or its answer was dropped or lost",
    },
}
"""One line on every reason that loop, guard, inbox, transport and DU count by, in the groups of summary.json."""


@dataclass(frozen=True)
class Family:
    """Reasons that begin alike and end in what the code met: a column, a status code, a state of RMR.

    Attributes:
        group: see `REASONS`.
        prefix: of the reason.
        meaning: one line; ``{}`` stands for the rest of the reason.
    """

    group: Group
    prefix: str
    meaning: str


FAMILIES: Final = (
    Family("noticed", "invalid_", "reported {} out of range: taken as not measured"),
    Family("lost", "connection_", "the connection to the node broke ({}) and was set up again"),
    Family("lost", "control_stream_", "the stream of control messages ended ({}): subscribed again"),
    Family("lost", "answer_", "an answer to a control request that cannot be read ({})"),
    Family("lost", "rmr_", "a message over RMR that was not sent or not received ({}; see rmr.h)"),
    Family("dropped", "rmr_", "an indication that the E2 termination could not send over RMR ({}; see rmr.h)"),
)


def explain(group: Group, reason: str) -> str:
    """One line on a reason of a group; empty if it is not known."""
    known = REASONS[group].get(reason)
    if known is not None:
        return known
    for family in FAMILIES:
        if family.group == group and reason.startswith(family.prefix):
            return family.meaning.format(reason.removeprefix(family.prefix))
    return ""
