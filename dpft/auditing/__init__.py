"""Audit: tests that could prove our own guarantee wrong."""

from dpft.auditing.conformance import audit_conformance
from dpft.auditing.target import AuditTarget
from dpft.auditing.verdict import AuditCheck, Verdict

__all__ = ["AuditCheck", "AuditTarget", "Verdict", "audit_conformance"]
