"""A small rulebook that tells people something: amounts that choose the verdict, articles of law, notices, appeals."""

from __future__ import annotations

from collections.abc import Mapping

from tests.books import POLICY, RULES, SMALL

LAW = """\
law: cn.tst
about: A law for tests.
owner: tests
name: {en: Test Law, zh: 测试法}
country: CN
source: made up for tests
articles:
  - id: cn.tst.2
    name: {en: Large amounts, zh: 大额}
    versions:
      - {number: "1", from: 2020-01-01, to: 2026-11-22, duty: {en: old duty, zh: 旧义务}, verified: true}
      - {number: "2", from: 2026-11-23, duty: {en: new duty, zh: 新义务}, verified: true}
  - id: cn.tst.9
    name: {en: Lists, zh: 名单}
    versions:
      - {number: "9", from: 2020-01-01, duty: {en: listed duty, zh: 名单义务}, verified: false, open: from memory}
"""

NOTICES = """\
notices: till
about: What buyers are told at the till.
owner: tests
for: [till]
verdicts:
  challenge:
    title: {en: Please confirm, zh: 请确认}
    what: {en: "{reference} waits.", zh: "{reference} 等待验证。"}
    lasts: {en: "Until {until}.", zh: "至 {until}。"}
  review:
    title: {en: We are looking, zh: 正在审核}
    what: {en: It waits for a person., zh: 等待人工审核。}
  decline:
    title: {en: "Not accepted: {reference}", zh: "未被接受：{reference}"}
    what: {en: It was not accepted., zh: 未被接受。}
actions:
  block_card: {en: The card is blocked., zh: 该卡已停用。}
  hold: {en: It is held., zh: 已暂扣。}
ends:
  lifted: {title: {en: Lifted, zh: 已解除}, what: {en: "{reference} is lifted.", zh: "{reference} 已解除。"}}
  partly: {title: {en: Partly, zh: 部分解除}, what: {en: Part is lifted., zh: 部分已解除。}}
  upheld: {title: {en: It stands, zh: 维持}, what: {en: It stands., zh: 维持原决定。}}
  expired: {title: {en: Over, zh: 已失效}, what: {en: Nothing came., zh: 未收到补充。}}
reasons:
  - {signals: [card_testing, listed], fraud: true, documents: [identity]}
  - signals: [odd_amount]
    why: {en: The amount is odd., zh: 金额不寻常。}
    act: {en: Take another amount., zh: 请换一个金额。}
  - {signals: [large_amount], why: {en: The amount is large., zh: 金额较大。}}
  - {signals: [challenge_failed], why: {en: The proof did not fit., zh: 验证未通过。}}
  - {signals: ["*"], why: {en: It does not fit our rules., zh: 不符合规则。}}
documents:
  identity: {en: a proof of identity, zh: 身份证明}
changes:
  amount: {less: {en: a smaller amount, zh: 较小的金额}}
channel: {en: "Write to us.", zh: 请联系我们。}
says:
  fraud: {en: It resembles misuse., zh: 与滥用行为相似。}
  automated: {en: A program decided., zh: 由程序作出。}
  by_person: {en: A person decided., zh: 由工作人员作出。}
  by_law: {en: "By law: {articles}.", zh: "依据：{articles}。"}
  own_rules: {en: By our rules., zh: 依据平台规则。}
  until: {en: "Until {until}.", zh: "至 {until}。"}
  no_end: {en: Until lifted., zh: 至解除。}
  documents: {en: "Send {documents}.", zh: "请提交{documents}。"}
  appeal: {en: "Object within {within}, answered within {answer}.", zh: "{within}内申诉，{answer}内答复。"}
  human_review: {en: Ask for a person., zh: 可要求人工复核。}
  no_appeal: {en: Turn to the authority., zh: 可向主管部门投诉。}
"""

APPEAL = "appeal: {within: 30d, acknowledge: 1d, answer: 15d, more: 5d, if_late: wait, counts_as: false_positive}\n"
ACTIONS = (
    "actions:\n"
    "  - {when: [large_amount], do: block_card, for: 24h, basis: house-policy}\n"
    "  - {when: [large_amount], do: hold, basis: cn.tst.2}\n"
)
_BASIS = "basis: {kind: house-policy, review_by: 2027-05-31}"


def _cites(rules: str, signal: str, id: str) -> str:
    """The rules, that of the signal resting on an article."""
    head, rest = rules.split(f"signal: {signal}", 1)
    return f"{head}signal: {signal}" + rest.replace(_BASIS, f"basis: {{law: [{id}]}}", 1)


CITING = _cites(_cites(RULES, "large_amount", "cn.tst.2"), "listed", "cn.tst.9")

TOLD: Mapping[str, str] = {
    **SMALL,
    "rules/small.yaml": CITING,
    "policies/till.yaml": POLICY + APPEAL + ACTIONS,
    "policies/law/test.yaml": LAW,
    "policies/notices/till.yaml": NOTICES,
}
"""41 CNY: a challenge for an odd amount; 61 CNY: a review; from 85 CNY on declined by law, with two measures."""
