"""Names of spans' attributes, in one place.

``gen_ai.*`` follows the OpenTelemetry GenAI conventions (``open-telemetry/semantic-conventions-genai``, status
Development; the constants in the semantic-conventions package are deprecated). ``zt_agents.*`` is ours: the
conventions have no words for authorization yet.
"""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
AGENT_ID = "gen_ai.agent.id"
AGENT_NAME = "gen_ai.agent.name"
AGENT_VERSION = "gen_ai.agent.version"
CONVERSATION_ID = "gen_ai.conversation.id"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
DATA_SOURCE_ID = "gen_ai.data_source.id"
USER_ID = "user.id"
USER_HASH = "user.hash"
ERROR_TYPE = "error.type"
SECURITY_RULE_NAME = "security_rule.name"

DECISION_ID = "zt_agents.decision.id"
DECISION_OUTCOME = "zt_agents.decision.outcome"
DECISION_REASON = "zt_agents.decision.reason"
DECISION_TIER = "zt_agents.decision.tier"
DECISION_ENFORCED = "zt_agents.decision.enforced"
POLICY_ID = "zt_agents.policy.id"
POLICY_VERSION = "zt_agents.policy.version"
RULE_ID = "zt_agents.rule.id"
ARGS_HASH = "zt_agents.tool.args_hash"
TOOL_FINGERPRINT = "zt_agents.tool.fingerprint"
RESOURCE_ID = "zt_agents.resource.id"
RESOURCE_DATA_CLASS = "zt_agents.resource.data_class"
TARGET_SYSTEM = "zt_agents.target.system"
DELEGATION_CHAIN = "zt_agents.delegation.chain"
DELEGATION_DEPTH = "zt_agents.delegation.depth"
DELEGATION_USERS = "zt_agents.delegation.users"
DELEGATION_USER_CHANGED = "zt_agents.delegation.user_changed"
TOKEN_JTI = "zt_agents.token.jti"  # noqa: S105 - the token's id, not the token
AGENT_OWNER = "zt_agents.agent.owner"
AGENT_SPIFFE_ID = "zt_agents.agent.spiffe_id"
TASK_ID = "zt_agents.task.id"
APPROVAL_ID = "zt_agents.approval.id"
APPROVAL_STATUS = "zt_agents.approval.status"
PROVENANCE_INTEGRITY = "zt_agents.provenance.integrity"
AUDIT_SEQ = "zt_agents.audit.seq"
SECRET_NAME = "zt_agents.secret.name"  # noqa: S105 - its name, not the secret
SECRET_STATUS = "zt_agents.secret.status"  # noqa: S105

EVENT_SECRET = "zt_agents.secret"  # noqa: S105

SPAN_INVOKE_AGENT = "invoke_agent"
SPAN_EXECUTE_TOOL = "execute_tool"
SPAN_APPROVAL = "zt_agents.approval"

METRIC_EXECUTE_TOOL = "gen_ai.execute_tool.duration"
METRIC_DECISIONS = "zt_agents.decisions"
METRIC_APPROVAL_WAIT = "zt_agents.approval.wait"
METRIC_SPANS_DROPPED = "zt_agents.spans.dropped"
