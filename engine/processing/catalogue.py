"""What is looked at in records of processing: each check with its articles and its words in both languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is looked at: its id, its articles, what is told when it is not so, by language, with {} for what
    it is of."""

    id: str
    law: tuple[str, ...]
    en: str
    zh: str


_ALL = (
    Check("needless", ("cn.pipl.6",), "the purpose does not need: {}", "该目的不需要：{}"),
    Check("notice", ("cn.pipl.7", "cn.pipl.17"), "nobody is told of it", "未告知个人"),
    Check("notice-late", ("cn.pipl.17",), "it began before persons were told", "告知之前已开始处理"),
    Check("notice-purpose", ("cn.pipl.17",), "the notice does not name the purpose '{}'", "告知未写明目的 '{}'"),
    Check("notice-fields", ("cn.pipl.17",), "the notice does not cover: {}", "告知未涵盖：{}"),
    Check("notice-term", ("cn.pipl.17",), "the notice does not say how long data are kept", "告知未写明保存期限"),
    Check(
        "notice-shorter",
        ("cn.pipl.17", "cn.pipl.19"),
        "the notice says less than is kept: {}",
        "告知的期限短于实际保存期限：{}",
    ),
    Check("notice-rights", ("cn.pipl.17",), "the notice does not say how rights are used", "告知未写明权利行使方式"),
    Check(
        "nobody",
        ("cn.pipl.7", "cn.pipl.17"),
        "the records do not say who answers, and how to reach them",
        "记录未写明处理者及联系方式",
    ),
    Check("basis", ("cn.pipl.13",), "no basis is named", "未写明合法性基础"),
    Check("evidence", ("cn.pipl.13",), "nothing shows the basis '{}'", "合法性基础 '{}' 没有证明"),
    Check("consent", ("cn.pipl.14",), "it rests on consent, and none is described", "以同意为基础，但未说明同意情况"),
    Check(
        "consent-old",
        ("cn.pipl.14",),
        "persons agreed to an older version of the purpose: {}",
        "个人同意的是旧版本的目的：{}",
    ),
    Check("withdraw", ("cn.pipl.15",), "it is not said how consent is withdrawn", "未说明如何撤回同意"),
    Check(
        "forced",
        ("cn.pipl.16",),
        "who does not agree loses a service that does not need it",
        "以不同意为由拒绝提供并非必需该信息的服务",
    ),
    Check("term", ("cn.pipl.19",), "it is not said how long data are kept", "未写明保存期限"),
    Check(
        "kept-longer",
        ("cn.pipl.19",),
        "the retention file keeps data longer than this says: {}",
        "保存期限文件的期限长于此处所写：{}",
    ),
    Check("kept-for-ever", ("cn.pipl.19",), "the retention file says nothing of: {}", "保存期限文件未规定：{}"),
    Check("contract", ("cn.pipl.21",), "no agreement binds the processor {}", "未与受托人 {} 订立协议"),
    Check("unwatched", ("cn.pipl.21",), "nobody looked at the processor {} within a year", "一年内未监督受托人 {}"),
    Check("sharing-consent", ("cn.pipl.23",), "{} gets data without separate consent", "未经单独同意向 {} 提供信息"),
    Check("sharing-told", ("cn.pipl.23",), "the notice does not name the recipient {}", "告知未写明接收方 {}"),
    Check(
        "explanation",
        ("cn.pipl.24",),
        "a decision of weight is not explained on request",
        "对有重大影响的决定未提供说明",
    ),
    Check(
        "human",
        ("cn.pipl.24",),
        "a decision of weight cannot be had from a person",
        "对有重大影响的决定不能要求人工处理",
    ),
    Check(
        "opt-out", ("cn.pipl.24",), "marketing cannot be had without personal traits", "营销未提供不针对个人特征的选项"
    ),
    Check(
        "fairness",
        ("cn.pipl.24", "cn.cir.9"),
        "prices depend on it, and no test within a year says that they are fair (arbiter fairness)",
        "影响价格，但一年内未检验是否公平（arbiter fairness）",
    ),
    Check(
        "necessity",
        ("cn.pipl.28",),
        "it is not said why sensitive data are needed: {}",
        "未说明处理敏感个人信息的必要性：{}",
    ),
    Check("protection", ("cn.pipl.28", "cn.pipl.51"), "sensitive data lie unencrypted: {}", "敏感个人信息未加密：{}"),
    Check(
        "separate-consent",
        ("cn.pipl.29",),
        "no separate consent for sensitive data: {}",
        "处理敏感个人信息未取得单独同意：{}",
    ),
    Check(
        "notice-sensitive",
        ("cn.pipl.30",),
        "the notice does not say why sensitive data are needed and what follows: {}",
        "告知未说明处理敏感个人信息的必要性及影响：{}",
    ),
    Check(
        "guardian",
        ("cn.pipl.31",),
        "children under fourteen may be among them, and no guardian agrees",
        "可能包含不满十四周岁未成年人，但未取得监护人同意",
    ),
    Check(
        "children-rules",
        ("cn.pipl.31",),
        "there are no special rules for the data of children under fourteen",
        "未制定不满十四周岁未成年人信息的专门规则",
    ),
    Check(
        "mechanism",
        ("cn.pipl.38",),
        "data go to {} without assessment, certification, standard contract or exemption",
        "向 {} 提供信息，但无评估、认证、标准合同或豁免",
    ),
    Check(
        "not-few",
        ("cn.pipl.38", "cn.ncd.5"),
        "the exemption for few persons does not hold: {}",
        "不符合少量信息豁免条件：{}",
    ),
    Check(
        "assess-abroad",
        ("cn.pipl.38", "cn.ncd.7"),
        "so many persons need a security assessment: {}",
        "达到须申报安全评估的数量：{}",
    ),
    Check(
        "abroad-told",
        ("cn.pipl.39",),
        "persons are not told who gets data in {}, and how to reach them",
        "未告知 {} 的接收方及联系方式",
    ),
    Check(
        "abroad-consent", ("cn.pipl.39",), "no separate consent for data that go to {}", "向 {} 提供信息未取得单独同意"
    ),
    Check(
        "stays-here",
        ("cn.pipl.40",),
        "who has data of so many persons keeps them in the country, or is assessed: {}",
        "处理信息达到规定数量的，应境内存储或通过评估：{}",
    ),
    Check(
        "authorities",
        ("cn.pipl.41",),
        "nothing keeps foreign authorities from data in {} without approval",
        "未规定向 {} 的司法或执法机构提供信息须经批准",
    ),
    Check("encryption", ("cn.pipl.51",), "the data lie unencrypted", "信息未加密"),
    Check("access", ("cn.pipl.51",), "it is not said who may see what", "未规定操作权限"),
    Check("training", ("cn.pipl.51",), "nobody was trained within a year", "一年内未开展培训"),
    Check("incidents", ("cn.pipl.51",), "there is no plan for incidents", "未制定应急预案"),
    Check(
        "officer", ("cn.pipl.52",), "no officer is filed, with data of {} persons", "处理 {} 人的信息，但未报送负责人"
    ),
    Check("audit", ("cn.pipl.54",), "nobody has audited it", "未开展合规审计"),
    Check(
        "audit-old",
        ("cn.pipl.54", "cn.pam.4"),
        "the last audit is more than two years ago, with data of {} persons",
        "处理 {} 人的信息，但上次审计已逾两年",
    ),
    Check(
        "assessment",
        ("cn.pipl.55",),
        "no assessment of what it does to persons, which is needed for: {}",
        "未进行个人信息保护影响评估，涉及：{}",
    ),
    Check("assessment-late", ("cn.pipl.55",), "it began before it was assessed", "评估之前已开始处理"),
    Check(
        "assessment-kept",
        ("cn.pipl.56",),
        "the assessment is kept for less than three years: {}",
        "评估报告保存不足三年：{}",
    ),
    Check(
        "unrecorded",
        ("cn.pipl.55", "cn.pipl.56"),
        "no record has these personal fields of the schema, {}",
        "以下个人信息字段未列入任何记录，{}",
    ),
)
CHECKS: Mapping[str, Check] = {each.id: each for each in _ALL}
"""Every check by its id."""
