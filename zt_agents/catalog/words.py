"""The vocabulary of guesses. Only exact words count: ``deleted`` in a name is not ``delete``."""

from __future__ import annotations

from collections.abc import Mapping

from zt_agents.catalog.specs import Effect
from zt_agents.provenance.labels import DataClass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(entries: Mapping[Effect, str]) -> dict[str, Effect]:
    return {word: effect for effect, words in entries.items() for word in words.split()}


VERBS = _table(
    {
        Effect.READ: """
            get list read search find fetch lookup look show view describe query retrieve check count
            summarize summarise browse load scan inspect calculate compute convert parse download think
            translate compare validate verify watch monitor explain analyze analyse track recommend select
            ping preview
        """,
        Effect.WRITE: """
            update set write create add edit modify insert save put patch append change rename move copy
            assign schedule book reserve register configure enable disable close cancel archive mark
            upsert import sync merge approve reject replace generate make draft restore tag subscribe
            follow vote store reset upgrade
        """,
        Effect.DELETE: """
            delete drop remove purge erase destroy wipe truncate uninstall clear unlink rm terminate kill
        """,
        Effect.EGRESS: """
            send upload publish share forward reply export transmit broadcast notify submit push
        """,
        Effect.MONEY: "pay buy purchase sell withdraw deposit reimburse checkout donate trade",
        Effect.AUTH: "grant revoke authorize authorise impersonate login sudo unlock invite ban unban",
        Effect.EXECUTE: """
            exec execute eval sql shell bash powershell python javascript repl terminal subprocess ssh
            interpreter deploy
        """,
    }
)
"""Words that say what is done wherever they stand in a name."""

NOUN_VERBS = _table(
    {
        Effect.READ: "lookup history status",
        Effect.WRITE: "comment review rate record log label report message",
        Effect.EGRESS: "email mail post sms tweet call webhook",
        Effect.MONEY: "transfer refund order charge wire payment payout",
        Effect.EXECUTE: "run command cmd script",
    }
)
"""Words that are a verb (``email_customer``) unless a verb stands before them (``get_email``)."""

OBJECTS = _table(
    {
        Effect.MONEY: "money funds fund payment payout refund transfer withdrawal charge wire",
        Effect.AUTH: """
            password passwords permission permissions role roles credential credentials mfa policy acl
            admin privilege privileges access certificate authentication authorization
        """,
    }
)
"""What a tool changes, and so how grave the change is. Reading one of these is a matter of data class."""

OBJECT_PAIRS = {
    ("api", "key"): Effect.AUTH,
    ("api", "keys"): Effect.AUTH,
    ("access", "token"): Effect.AUTH,
    ("ssh", "key"): Effect.AUTH,
    ("public", "key"): Effect.AUTH,
}

DESCRIPTION_VERBS = _table(
    {
        Effect.DELETE: """
            delete deletes remove removes drop drops erase erases purge purges destroy destroys wipe wipes
        """,
        Effect.MONEY: """
            pay pays transfer transfers refund refunds charge charges purchase purchases buy buys
        """,
        Effect.AUTH: "grant grants revoke revokes authorize authorizes unlock unlocks",
        Effect.EXECUTE: "execute executes run runs evaluate evaluates",
        Effect.EGRESS: """
            send sends upload uploads publish publishes share shares post posts email emails forward
            forwards
        """,
    }
)
"""Grave words in a description. If it opens with one, that is what the tool does; elsewhere it is a hint."""

CODE_WORDS = _words("command commands cmd sql script shell")
"""An argument whose name ends in one of these is run by somebody."""

CODE_ARGUMENTS = _words("code python_code source_code expression program")
"""So is an argument of exactly this name; ``country_code`` is not."""

DESTINATION_WORDS = _words("""
    to cc bcc recipient recipients receiver email emails address addresses destination dest target channel
    phone number iban account contact contacts username handle chat topic bucket
    """)
"""Where data or money goes, when the tool sends either."""

URL_WORDS = _words("url urls uri link links webhook endpoint host hostname domain website webpage")
"""A place on the network: reading from it tells it something too."""

CONTENT_WORDS = _words("""
    body content contents text message messages subject data file files attachment attachments payload
    html caption comment note document media image images audio video tweet title summary description
    reason
    """)

DATA_CLASSES = {
    word: data_class
    for data_class, words in {
        DataClass.RESTRICTED: """
            password passwords secret secrets credential credentials ssn passport medical patient health
            clinical diagnosis prescription prescriptions patients genetic biometric cvv vault
        """,
        DataClass.CONFIDENTIAL: """
            pay salary salaries payroll compensation wage bank payment payments invoice invoices tax
            financial transaction transactions balance holdings portfolio personnel personal
            location
        """,
    }.items()
    for word in words.split()
}

DATA_CLASS_PAIRS = {
    ("api", "key"): DataClass.RESTRICTED,
    ("api", "keys"): DataClass.RESTRICTED,
    ("private", "key"): DataClass.RESTRICTED,
    ("access", "token"): DataClass.RESTRICTED,
    ("auth", "token"): DataClass.RESTRICTED,
    ("credit", "card"): DataClass.RESTRICTED,
    ("social", "security"): DataClass.RESTRICTED,
}
