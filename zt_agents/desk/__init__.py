"""Where a held call becomes an approved one: the desk, what proves an answer, second factors, signed responses."""

from zt_agents.desk.answers import AnswerDesk
from zt_agents.desk.desk import ApprovalDesk, Ruling
from zt_agents.desk.factors import SecondFactors
from zt_agents.desk.proofs import AnswerProofs, Conditions

__all__ = ["AnswerDesk", "AnswerProofs", "ApprovalDesk", "Conditions", "Ruling", "SecondFactors"]
