"""The catalogue: every kind of event Arbiter takes and every field each may have.

Groups of fields are declared once and shared by the kinds, so a path means the same wherever it stands.
`docs/events.md` is generated from here (`python -m engine.schema.page`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from engine.schema.fields import FieldDef, by_path, duration, flag, found_out, instant, money, number, text

KIND_NAMES = (
    "transaction payment listing merchant account fulfilment aftersale review promotion payout complaint outcome"
)

# Rows of a table: one field each, not one argument a line.
# fmt: off
ENVELOPE = (
    text("kind", "What kind of event this is", "transaction", choices=KIND_NAMES),
    text("event_id", "The sender's id of this event; decided once", "ev-2026-000184", "identifier", form="id",
         size=128),
    text("order_id", "The order it belongs to, where there is one", "202611200830001234", "identifier", form="id"),
    instant("at", "When it happened, by the sender's clock", "2026-11-20T08:30:00+08:00"),
)

# What a body may say beside the fields; an event itself does not keep it there.
AROUND = (
    number("format", "The version of this format", 1, low=1, high=1, whole=True),
    text("tenant", "Whose event this is; the API key says it", "shop-a", form="id"),
)

AMOUNT = (
    money("amount", "What is to be paid, refunded or paid out", "4980.00 CNY"),
    money("settled_amount", "The same amount in the currency it is settled in", "690.35 USD"),
)

PRICE_PARTS = (
    money("discount", "Sum of all discounts in the amount", "120.00 CNY"),
    money("shipping_fee", "Postage in the amount", "12.00 CNY"),
    money("tax", "Taxes and duties in the amount", "45.80 CNY"),
)

BUYER = (
    text("buyer.account", "Account id at the shop", "u-20391", "buyer personal account identifier", form="id"),
    text("buyer.name", "Name as given", "张三", "buyer personal", size=100),
    text("buyer.email", "E-mail address", "zhangsan@example.com", "buyer personal email", form="email", size=254),
    text("buyer.email_domain", "Domain of the e-mail address; one of their own names a person", "example.com",
         "buyer personal", form="domain", size=253, derived=True),
    text("buyer.phone", "Phone; +86 when no country code is given", "13800138000",
         "buyer personal phone identifier", form="phone", size=32),
    instant("buyer.signup_at", "When the account was opened", "2023-03-02T10:11:12+08:00", "buyer personal"),
    text("buyer.age_band", "Age band, if known", "adult", "buyer sensitive", choices="under_8 8_13 14_17 adult"),
    flag("buyer.guardian_consent", "A guardian has agreed", "buyer personal"),
    flag("buyer.guest", "Bought without an account"),
    flag("buyer.verified", "Identity was verified (real name)"),
    text("buyer.payer", "Payer at the wallet: Alipay buyer id, WeChat openid, PayPal payer id", "2088102146225135",
         "buyer personal payer identifier", form="id", size=128),
    text("buyer.person", "Your keyed hash of the identity document; never the number", "p-7f3a9c21",
         "buyer personal person identifier", form="id", size=128),
    text("buyer.payout_account", "Your reference of the account refunds and withdrawals go to", "acc-9914",
         "buyer personal payout_account", form="id", size=128),
    text("buyer.country", "Country of the account", "CN", form="country", size=2),
    text("buyer.membership", "Membership level", "gold", form="code"),
    number("buyer.orders", "Orders completed before this one", 12, whole=True),
    instant("buyer.last_active_at", "Last activity before this one", "2026-11-18T21:00:00+08:00", "buyer personal"),
)

CARD = (
    text("card.ref", "Your token of the card; never the number", "card_8f2k1", "buyer personal card", form="id",
         size=128),
    text("card.bin", "Issuer number: the first 6 to 8 digits", "622848", form="digits", shortest=6, size=8),
    text("card.last4", "Last four digits", "8000", "buyer personal", form="digits", shortest=4, size=4),
    text("card.country", "Country of the issuer", "CN", form="country", size=2),
    text("card.scheme", "Card scheme", "unionpay", form="code"),
    text("card.funding", "How the card is funded", "debit", choices="credit debit prepaid charge unknown"),
    text("card.issuer", "Issuing bank", "ICBC", size=100),
)

DEVICE = (
    text("device.id", "Device or browser id", "d-51c0", "buyer personal device identifier", form="id", size=128),
    text("device.user_agent", "User-Agent header", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)",
         "buyer personal", size=1000),
    text("device.os", "Operating system", "ios", form="code"),
    text("device.browser", "Browser or app", "Safari", size=64),
    text("device.language", "Preferred language", "zh-CN", form="code", size=35),
    text("device.timezone", "Time zone of the device", "Asia/Shanghai", form="code"),
    flag("device.emulator", "Looks like an emulator"),
    flag("device.rooted", "Rooted or jailbroken"),
)

NETWORK = (
    text("ip", "Address the request came from", "203.0.113.9", "buyer personal ip identifier", form="ip", size=45),
    text("ip_country", "Country of the address", "CN", form="country", size=2),
    text("ip_type", "Kind of network", "residential", choices="residential mobile hosting vpn proxy tor unknown"),
    number("ip_asn", "Autonomous system number", 4134, whole=True, high=4294967295),
)


def _address(at: str, subject: str, whose: str) -> tuple[FieldDef, ...]:
    return (
        text(f"{at}.name", f"Name of {whose}", "李四", f"{subject} personal", size=100),
        text(f"{at}.phone", f"Phone of {whose}; +86 when no country code is given", "13900139000",
             f"{subject} personal phone identifier", form="phone", size=32),
        text(f"{at}.country", "Country", "CN", form="country", size=2),
        text(f"{at}.region", "Province, state or region", "浙江省"),
        text(f"{at}.city", "City", "杭州市", f"{subject} personal", size=100),
        text(f"{at}.district", "District or county", "西湖区", f"{subject} personal", size=100),
        text(f"{at}.street", "Street, house, flat", "文三路 100 号 2 单元 301", f"{subject} personal", size=300),
        text(f"{at}.postcode", "Postcode", "310012", f"{subject} personal", size=16),
        text(f"{at}.address", "The whole address in one normal form, or your own token of it",
             "cn|浙江省|杭州市|西湖区|文三路100号2单元301", f"{subject} personal address", size=800, derived=True),
    )


SHIPPING = (
    *_address("shipping", "recipient", "the recipient"),
    text("shipping.method", "How it is sent", "express", form="code"),
    flag("shipping.pickup", "Collected at a pick-up point"),
)
BILLING = _address("billing", "buyer", "the card holder")

ITEMS = (
    text("items.sku", "Article number", "SKU-7781", "identifier", form="id", many=True),
    text("items.title", "Title as sold", "无线耳机 Pro", "buyer free_text", size=500, many=True),
    text("items.category", "Category", "electronics", form="name", size=128, many=True),
    text("items.brand", "Brand", "Acme", size=100, many=True),
    number("items.quantity", "Pieces", 1, whole=True, high=1000000, many=True),
    money("items.price", "Price paid for one piece", "4980.00 CNY", many=True),
    money("items.list_price", "Struck-through price of one piece", "5980.00 CNY", many=True),
    money("items.usual_price", "What the piece usually sells for (median)", "4900.00 CNY", many=True),
    text("items.seller", "Merchant that sells it", "m-301", "identifier", form="id", many=True),
)

BASKET = (
    number("basket.quantity", "Pieces in all", 1, whole=True, high=1000000),
    number("basket.lowest_price_ratio", "Lowest of price ÷ usual price over the items", 0.98),
    flag("basket.virtual", "Nothing has to be shipped"),
    flag("basket.prechecked_addons", "Holds add-ons that were ticked beforehand"),
    flag("basket.bundle_disclosed", "What is sold together is shown so, with a way to buy one without the other"),
    flag("basket.no_return_confirmed", "The buyer confirmed, apart from all else, that the goods cannot be sent back"),
    flag("basket.personal_price", "The price was set for this buyer"),
    money("basket.shown_total", "Total the buyer saw before paying", "4980.00 CNY"),
)

MERCHANT_ID = (
    text("merchant.id", "The seller", "m-301", "identifier", form="id"),
)
MERCHANT_SHORT = (
    *MERCHANT_ID,
    text("merchant.category", "Main category", "electronics", form="name", size=128),
    text("merchant.country", "Country of the seller", "CN", form="country", size=2),
    text("merchant.status", "Where the seller stands", "active", choices="applying active suspended banned closed"),
    instant("merchant.opened_at", "When the shop opened", "2024-05-06T09:00:00+08:00"),
    text("merchant.payout_account", "Your reference of the account the seller is paid to", "acc-301",
         "seller personal payout_account", form="id", size=128),
    number("merchant.dispute_rate", "Disputes ÷ orders, last 30 days", 0.004, high=1),
    number("merchant.peer_dispute_rate", "The same for sellers of its category", 0.006, high=1),
)

LIVESTREAM = (
    text("livestream.room", "Livestream room", "room-88", "identifier", form="id"),
    text("livestream.anchor", "Account of the anchor", "anchor-12", "seller personal account identifier", form="id"),
    text("livestream.agency", "Agency (MCN) of the anchor", "mcn-3", "identifier", form="id"),
    flag("livestream.replay", "Bought from a replay"),
    flag("livestream.recorded", "The whole stream is kept"),
    flag("livestream.seller_shown", "The stream shows who sells, and who answers after the sale"),
    flag("livestream.endorses", "The anchor recommends the goods in their own name"),
    flag("livestream.generated", "The anchor is a generated person"),
    flag("livestream.generated_marked", "Viewers are told so all the time"),
)
CHANNEL = (
    text("channel", "Where it was bought", "app", choices="app web mini_program livestream store phone api other"),
    *LIVESTREAM,
)

PAYMENT_METHOD = (
    text("payment.method", "How it is paid: card, alipay, wechat_pay, unionpay, paypal, cod, balance …", "alipay",
         form="code"),
    text("payment.provider", "Payment service", "psp-a", form="code"),
    number("payment.installments", "Number of instalments", 3, whole=True, high=120),
    flag("payment.stored", "Paid with a stored card or agreement"),
    flag("payment.recurring", "A repeated charge the buyer agreed to before"),
    flag("payment.reminded", "The buyer was reminded of this renewal before it"),
)
PAYMENT = (
    text("payment.id", "The payment this step belongs to", "pay-5512", "identifier", form="id", size=128),
    text("payment.stage", "Which step this is", "attempt",
         choices="attempt issuer_response three_ds capture cancel refund"),
    text("payment.result", "How the step ended", "approved", choices="approved declined pending timeout error"),
    text("payment.response_code", "The issuer's response code", "51", form="code"),
    text("payment.decline_reason", "The decline reason in words", "insufficient_funds", form="code"),
    text("payment.three_ds", "Result of 3-D Secure", "passed",
         choices="passed failed attempted not_enrolled exempted abandoned unavailable"),
    text("payment.eci", "Electronic commerce indicator", "05", form="digits", size=2),
    flag("payment.liability_shift", "The issuer bears the risk"),
    text("payment.avs", "Address check at the issuer", "match", choices="match partial no_match not_checked"),
    text("payment.code_check", "Check of the card's security code at the issuer (its result, never the code)", "match",
         choices="match no_match not_checked"),
    number("payment.attempt", "Number of the attempt for this order, from 1", 1, low=1, whole=True, high=1000),
    text("payment.sca_exemption", "Why the payer was not authenticated (PSD2, Regulation 2018/389)", "low_value",
         choices="low_value risk_analysis recurring trusted corporate merchant_initiated"),
    number("payment.fraud_rate", "Fraud rate of the payment service for remote card payments, by value, last 90 days",
           0.0009, high=1),
)

COUPON = (
    text("coupon.code", "Coupon used", "NEW50", "identifier", form="id"),
    text("coupon.campaign", "Campaign the coupon belongs to", "double-11", form="code"),
    money("coupon.value", "What it takes off", "50.00 CNY"),
    flag("coupon.newcomer", "Only for first orders"),
)

CUSTOMS = (
    flag("customs.cross_border", "Goes through customs"),
    text("customs.mode", "Customs supervision mode, such as 1210 or 9610", "1210", form="code", size=16),
    flag("customs.orderer_is_payer", "The orderer in the customs declaration is the payer"),
    money("customs.declared_value", "Value declared to customs", "4980.00 CNY"),
    text("customs.origin_country", "Country the goods come from", "JP", form="country", size=2),
    money("customs.spent_this_year", "Cross-border purchases of the orderer this year", "8200.00 CNY",
         "buyer personal"),
)

SESSION = (
    text("session.id", "Browsing session", "s-91aa", "buyer personal identifier", form="id", size=128),
    duration("session.since_landing", "Time from the first page to the order", "184s"),
    number("session.pages", "Pages seen", 9, whole=True),
    flag("session.searched", "Used the search"),
    text("session.source", "Where the visit came from", "ads", size=100),
)

NO_RETURN = "custom_made perishable digital_opened periodical other"
"""Goods that need not be taken back without a reason: the four of Consumer Protection Law Art. 25, and any other."""

# What Arbiter knows of the images that a listing names by sha256: (docs/images.md).
IMAGES = tuple(map(found_out, (
    number("listing.images_unknown", "Images of it that were never sent here", 0, whole=True),
    number("listing.images_broken", "Images of it that cannot be looked at", 0, whole=True),
    number("listing.images_unexamined", "Images of it at which no detector looked, or another one", 0, whole=True),
    text("listing.image_matches", "What kinds of known images its images look like", ["counterfeit"],
         choices="counterfeit brand_mark banned", many=True),
    text("listing.image_labels", "What those known images show", ["acme-bag"], "identifier", size=100, many=True),
    text("listing.image_classes", "What a detector saw on its images", ["logo"], "identifier", form="code", many=True),
)))

LISTING_ID = (
    text("listing.id", "The listing; of an order, where it is of one listing", "l-7781", "identifier", form="id"),
)
LISTING = (
    *LISTING_ID,
    text("listing.action", "What was done", "created", choices="created changed relisted removed checked"),
    text("listing.title", "Title", "无线耳机 Pro 主动降噪", "seller free_text", size=500),
    text("listing.description", "Description, as plain text", "蓝牙 5.4，续航 30 小时。", "seller free_text",
         form="free", size=20000),
    text("listing.category", "Category", "electronics", form="name", size=128),
    text("listing.previous_category", "Category before the change", "phone-cases", form="name", size=128),
    text("listing.brand", "Brand", "Acme", size=100),
    flag("listing.brand_authorised", "The seller has proved the right to sell the brand"),
    text("listing.condition", "State of the goods", "new", choices="new refurbished used"),
    money("listing.price", "Price", "499.00 CNY"),
    money("listing.list_price", "Struck-through price", "899.00 CNY"),
    money("listing.lowest_price_7d", "Lowest price it was sold at in the 7 days before", "479.00 CNY"),
    money("listing.peer_price", "What others ask for the same goods (median)", "520.00 CNY"),
    number("listing.stock", "Pieces in stock", 200, whole=True),
    number("listing.sold_30d", "Pieces sold in the last 30 days", 45, whole=True),
    number("listing.title_similarity", "Likeness of the title to the one before, 0 to 1", 0.91, high=1),
    flag("listing.images_replaced", "The main images were replaced"),
    text("listing.images.hash", "Hash of an image, such as sha256:… or pdq:…", "pdq:f8f8f0", "identifier", form="id",
         size=128, many=True),
    text("listing.images.url", "Address of an image", "https://img.example.com/1.jpg", "seller free_text identifier",
         form="url", size=2000, many=True),
    text("listing.licences.type", "Licence shown for the goods", "food_operation", form="code", many=True),
    text("listing.licences.number", "Number of that licence", "JY13301060012345", "seller personal identifier",
         size=64, many=True),
    instant("listing.licences_valid_until", "When the first of its licences runs out", "2028-06-30T00:00:00+08:00"),
    text("listing.registration", "Registration or filing number of the goods (cosmetics, devices, health food)",
         "国妆网备进字2026000001", "identifier"),
    text("listing.attributes.name", "Name of an attribute", "颜色", size=100, many=True),
    text("listing.attributes.value", "Its value", "黑色", "seller free_text", size=1000, many=True),
    text("listing.origin_country", "Country the goods come from", "CN", form="country", size=2),
    flag("listing.cross_border", "Sent from abroad or a bonded warehouse"),
    flag("listing.advertised", "Shown as a paid placement"),
    flag("listing.ad_label", "Marked as advertising"),
    flag("listing.self_operated", "Marked as sold by the platform itself"),
    text("listing.sold_by", "Who sells it in truth", "merchant", choices="platform merchant"),
    text("listing.class", "What the law takes the goods for, where their category has several classes", "device_2",
         choices="device_1 device_2 device_3 prescription otc special_cosmetic ordinary_cosmetic"),
    text("listing.statements", "Statements that the law asks for and the page shows: not_a_medicine, "
         "read_instructions, ask_a_pharmacist, professionals_only …", ["not_a_medicine"], form="code", many=True),
    text("listing.evidence", "Proofs that were checked: inspection_report, ccc, ce_declaration, purchase_invoice, "
         "brand_authorisation, import_inspection …", ["inspection_report"], form="code", many=True),
    instant("listing.use_by", "Earliest date until which goods in stock may be used", "2027-03-31T00:00:00+08:00"),
    text("listing.ad_approval", "Approval number of its advertisement", "国药广审（文）第260101-00001号", "identifier"),
    text("listing.endorser", "Who recommends it", "celebrity",
         choices="expert institution doctor patient user celebrity child"),
    money("listing.shown_price", "Lowest price shown for it elsewhere: home page, search, advertisement", "449.00 CNY"),
    money("listing.gift_value", "What the page says its gift is worth", "99.00 CNY"),
    money("listing.gift_price", "What that gift is sold for here", "59.00 CNY"),
    flag("listing.prechecked_addons", "Offers add-ons that are ticked beforehand"),
    text("listing.no_return", "Why it cannot be sent back without a reason", "custom_made", choices=NO_RETURN),
    flag("listing.no_return_marked", "The page says so where nobody overlooks it"),
    text("listing.sold_in", "Countries it is offered in", ["CN"], form="country", size=2, many=True),
    flag("listing.trial", "Sold on trial: not all papers were checked yet"),
    number("listing.reviews_removed", "Reviews of it that were removed in the last 30 days without a ground in law", 3,
           whole=True),
)

MERCHANT = (
    *MERCHANT_SHORT,
    text("merchant.action", "What was done", "applied",
         choices="applied changed verified suspended banned reopened closed checked"),
    text("merchant.name", "Name in the business register", "杭州示例贸易有限公司", "seller personal", size=200),
    text("merchant.shop_name", "Name of the shop", "示例数码旗舰店", "seller free_text", size=100),
    text("merchant.type", "Legal form", "company", choices="company sole_trader individual foreign"),
    text("merchant.exemption", "Why no registration is needed (E-Commerce Law Art. 10)", "small_trade",
         choices="own_farm_produce handicraft licence_free_service small_trade"),
    text("merchant.uscc", "Unified social credit code, or the foreign register number", "91330106MA27XXXX06",
         "seller personal company identifier", form="id"),
    text("merchant.legal_person", "Name of the legal representative", "王五", "seller personal", size=100),
    text("merchant.person", "Your keyed hash of the representative's identity document; never the number", "p-1b77",
         "seller personal person identifier", form="id", size=128),
    text("merchant.owners", "Names of the beneficial owners", ["王五"], "seller personal", size=200, many=True),
    text("merchant.phone", "Phone; +86 when no country code is given", "13700137000",
         "seller personal phone identifier", form="phone", size=32),
    text("merchant.email", "E-mail address", "shop@example.com", "seller personal email", form="email", size=254),
    text("merchant.address", "Business address", "浙江省杭州市西湖区文三路 1 号", "seller personal address", size=300),
    text("merchant.region", "Province, state or region", "浙江省"),
    text("merchant.categories", "Categories it sells in", ["electronics"], form="name", size=128, many=True),
    text("merchant.licences.type", "Licence held", "food_operation", form="code", many=True),
    text("merchant.licences.number", "Number of that licence", "JY13301060012345", "seller personal identifier",
         size=64, many=True),
    instant("merchant.licences_valid_until", "When the first of its licences runs out", "2028-06-30T00:00:00+08:00"),
    text("merchant.account", "Account of the person who acts for the seller", "s-301-1",
         "seller personal account identifier", form="id"),
    instant("merchant.closing_told_at", "When it was announced that the shop closes", "2026-10-15T09:00:00+08:00"),
    instant("merchant.verified_at", "When identity, address and licences were last verified",
         "2026-07-01T09:00:00+08:00"),
    instant("merchant.payout_account_changed_at", "When the payout account was last changed",
            "2026-01-15T12:00:00+08:00"),
    flag("merchant.tax_registered", "Registered for tax"),
    money("merchant.deposit", "Deposit paid to the platform", "50000.00 CNY"),
    flag("merchant.holder_matches", "The name on the payout account is the seller's or its representative's"),
    text("merchant.authorisations.brand", "Brand that a paper lets somebody sell", "Acme", size=100, many=True),
    text("merchant.authorisations.grantor", "Your reference of who gives the paper", "acme-cn", "identifier", form="id",
         many=True),
    text("merchant.authorisations.given_by", "What its giver is", "owner", choices="owner distributor", many=True),
    text("merchant.authorisations.grantee", "Who gets it: the seller's id, or your reference of a distributor", "m-301",
         "identifier", form="id", many=True),
    text("merchant.authorisations.category", "Category it is for; for all when absent", "electronics", form="name",
         size=128,
         many=True),
    text("merchant.authorisations.country", "Country it is for; for all when absent", "CN", form="country", size=2,
         many=True),
    text("merchant.authorisations.begins", "First day it holds, in Shanghai", "2026-01-01", form="day", size=10,
         many=True),
    text("merchant.authorisations.ends", "Last day it holds", "2027-06-30", form="day", size=10, many=True),
    text("merchant.authorisation", "Whether those papers lead from the owner of each brand to the seller", "sound",
         choices="sound wider not_yet expired broken", derived=True),
    instant("merchant.authorised_until", "When the first of the papers of a sound chain ends",
            "2027-07-01T00:00:00+08:00", derived=True),
    text("merchant.sells_to", "Countries whose consumers it sells to", ["DE"], form="country", size=2, many=True),
    flag("merchant.self_certified", "Has certified to offer only what the law of the Union allows (DSA Art. 30)"),
    instant("merchant.high_volume_since", "When it became a high-volume seller to US consumers (INFORM Act)",
            "2026-10-01T09:00:00+08:00"),
    instant("merchant.inform_collected_at", "When bank account, tax id and contact were collected from it",
            "2026-10-05T09:00:00+08:00"),
    instant("merchant.inform_verified_at", "When those were verified", "2026-10-09T09:00:00+08:00"),
    instant("merchant.inform_certified_at", "When it last certified that they are still right",
            "2026-10-09T09:00:00+08:00"),
    flag("merchant.inform_disclosed", "Its name and contact are shown to buyers (INFORM Act)"),
    number("merchant.sales_24m", "Sales completed in the last 24 months", 260, whole=True),
)

ACCOUNT = (
    text("account.action", "What was done", "login",
         choices="login logout signup password_reset password_change email_change phone_change address_change "
         "payment_change verification deregistration data_request"),
    text("account.result", "How it ended", "success", choices="success failure blocked"),
    text("account.failure", "Why it failed", "wrong_password", form="code"),
    text("account.method", "How the person proved who they are", "sms", form="code"),
    text("account.role", "Whose account it is", "buyer", choices="buyer seller staff"),
    duration("account.idle", "Time since the last activity of the account", "200d"),
    flag("account.new_device", "The account was never used on this device before"),
    text("account.request", "What a person asked about their own data", "delete",
         choices="access copy correct delete deregister withdraw_consent explain"),
    instant("account.asked_at", "When they asked", "2026-11-02T10:00:00+08:00"),
    text("account.refusal", "The reason they were given for a refusal", "open_orders", form="code"),
    text("consent.agreed", "Version of the privacy notice that the person agreed to", "2026-03", form="code"),
    text("consent.current", "Version of the notice now in force", "2026-09", form="code"),
    flag("consent.separate", "The person agreed to this step apart from all else"),
)

FULFILMENT = (
    text("fulfilment.stage", "What happened", "shipped",
         choices="packed shipped scan weighed out_for_delivery delivered failed returned"),
    instant("fulfilment.promised_at", "When it was promised to be shipped by", "2026-11-22T23:59:59+08:00"),
    instant("fulfilment.shipped_at", "When it was shipped", "2026-11-21T15:00:00+08:00"),
    text("fulfilment.invoice", "Where the invoice stands", "issued", choices="not_asked pending issued refused"),
    text("parcel.tracking", "Tracking number", "SF1234567890123", "recipient personal parcel identifier", form="id"),
    text("parcel.carrier", "Carrier", "sf-express", form="code"),
    number("parcel.scans", "Scans so far", 4, whole=True),
    number("parcel.weight", "Weight in grams", 350),
    number("parcel.expected_weight", "Weight the goods should have, in grams", 340),
    text("parcel.country", "Country of the scan", "CN", form="country", size=2),
    text("parcel.region", "Province, state or region of the scan", "浙江省"),
)

AFTERSALE = (
    text("aftersale.id", "The after-sale case", "as-118", "identifier", form="id"),
    text("aftersale.action", "What was done", "refund_asked",
         choices="refund_asked return_asked exchange_asked claim inspected refunded refused closed"),
    text("aftersale.reason", "Reason given", "not_received",
         choices="not_received damaged not_as_described wrong_item counterfeit changed_mind late price other"),
    text("aftersale.text", "The buyer's words", "没有收到货", "buyer free_text", form="free", size=5000),
    text("aftersale.inspection", "What was found in the return", "ok",
         choices="ok used damaged swapped missing_parts empty"),
    instant("aftersale.delivered_at", "When the order was delivered", "2026-11-12T18:00:00+08:00"),
    number("aftersale.returned_weight", "Weight of the return in grams", 340),
    money("aftersale.gift_value", "Value of the gifts that came with the order", "99.00 CNY"),
    flag("aftersale.gift_returned", "The gifts came back"),
    text("aftersale.refusal", "Why it was refused", "opened",
         choices="opened used not_intact late excluded no_reason other"),
    text("aftersale.no_return", "Why the goods cannot be sent back without a reason", "custom_made", choices=NO_RETURN),
    instant("aftersale.returned_at", "When the seller got the goods back", "2026-11-16T11:00:00+08:00"),
    money("aftersale.paid", "What the buyer had paid for them", "499.00 CNY"),
    money("aftersale.compensation", "What the buyer gets beside the price", "1497.00 CNY"),
    money("aftersale.deposit", "Deposit that is asked back", "299.00 CNY"),
    instant("aftersale.deposit_due_at", "By when it is to be paid back, as agreed", "2026-11-15T00:00:00+08:00"),
)

REVIEW = (
    text("review.id", "The review", "rv-77", "identifier", form="id"),
    number("review.rating", "Stars", 5, low=1, high=5, whole=True),
    text("review.text", "The words", "音质很好，物流也快。", "buyer free_text", form="free", size=5000),
    text("review.fingerprint", "Hash that is equal for near-identical reviews (simhash, minhash band)", "sim:9f3a",
         "identifier", form="id", size=128),
    number("review.images", "Number of pictures", 2, whole=True),
    flag("review.default", "Written by the platform because the buyer said nothing"),
    flag("review.verified_purchase", "The reviewer bought the goods"),
    money("review.reward", "What the reviewer gets for it", "5.00 CNY"),
)

PROMOTION = (
    text("promotion.action", "What was done", "claim", choices="claim redeem refer cancel expire refused"),
    money("promotion.spent", "Spent by the campaign so far", "130000.00 CNY"),
    money("promotion.planned", "Planned to be spent by now", "50000.00 CNY"),
    money("promotion.budget", "Budget of the campaign", "200000.00 CNY"),
    money("promotion.prize", "Highest prize that can be won in it", "5000.00 CNY"),
    flag("promotion.rules_shown", "Prizes, conditions and how they are claimed are shown"),
    instant("promotion.ends_at", "When it ends", "2026-12-12T23:59:59+08:00"),
    text("referrer.account", "Account of the person who referred the buyer", "u-11872",
         "referrer personal account identifier", form="id"),
    text("referrer.payer", "Payer of that person at the wallet", "2088102146220001",
         "referrer personal payer identifier", form="id", size=128),
    text("referrer.device", "Device of that person", "d-77f1", "referrer personal device identifier", form="id",
         size=128),
)

PAYOUT = (
    text("payout.id", "The payout", "po-61", "identifier", form="id"),
    text("payout.action", "What was done", "request", choices="request account_change paid refused returned"),
    text("payout.purpose", "What it is for", "settlement",
         choices="settlement withdrawal cashback compensation refund commission"),
    text("payout.to", "Who is paid", "seller", choices="seller buyer affiliate"),
    text("payout.account", "Your reference of the account paid to", "acc-301", "seller personal payout_account",
         form="id", size=128),
    text("payout.holder", "Name on that account", "王五", "seller personal", size=200),
    flag("payout.holder_matches", "The name on the account is the seller's or its representative's"),
    text("payout.bank", "Bank", "ICBC", size=100),
    text("payout.country", "Country of the account", "CN", form="country", size=2),
    instant("payout.account_changed_at", "When the account was last changed", "2026-01-15T12:00:00+08:00"),
    money("payout.balance", "The seller's balance before", "82000.00 CNY"),
)

COMPLAINT = (
    text("complaint.id", "The complaint", "cp-12", "identifier", form="id"),
    text("complaint.by", "Who complains", "buyer", choices="buyer rights_holder authority competitor platform other"),
    text("complaint.reason", "Reason", "counterfeit",
         choices="counterfeit prohibited_goods not_as_described not_received safety ip_infringement false_advertising "
         "price privacy service unauthorised_payment other"),
    text("complaint.text", "The words", "收到的是假货", "buyer free_text", form="free", size=5000),
    text("complaint.notice", "Number of the notice", "N-2026-118", "identifier", form="id"),
    text("complaint.step", "Which step this is", "received",
         choices="received forwarded measures counter_statement counter_forwarded suit lifted refused published "
         "answered closed checked"),
    instant("complaint.received_at", "When it came in", "2026-11-19T10:00:00+08:00"),
    instant("complaint.due_at", "By when an answer is asked for", "2026-11-26T18:00:00+08:00"),
    flag("complaint.evidence", "Comes with first evidence"),
)

FRAUD = frozenset({"chargeback", "confirmed_fraud", "takedown_upheld"})
"""The results of an outcome that say it was fraud."""

OUTCOME = (
    text("outcome.refers_to", "Event id of the event it is about", "ev-2026-000184", "identifier", form="id", size=128),
    text("outcome.result", "What became known", "chargeback",
         choices="chargeback confirmed_fraud false_positive takedown_upheld"),
    text("outcome.reason", "Reason code", "10.4", form="code"),
    text("outcome.source", "Who says so", "acquirer", form="code"),
    money("outcome.loss", "What was lost", "4980.00 CNY"),
)

# fmt: on


def _of_seller(fields: tuple[FieldDef, ...]) -> tuple[FieldDef, ...]:
    """The same fields where the seller, not a buyer, sits at the device."""
    return tuple(replace(each, subject="seller") if each.subject else each for each in fields)


WHO = (*BUYER, *DEVICE, *NETWORK)
SELLER_AT = _of_seller((*DEVICE, *NETWORK))
SALE = (*MERCHANT_SHORT, *CHANNEL, *COUPON, *SESSION)

OUTCOME_ABOUT = (
    "What became known later about an event. It inherits the fields of the event it refers to, so conditions "
    "and windows over outcomes may use every field; the body holds only these. `at` is when it became known: "
    "not more than 5 minutes before that event, for clocks differ. An outcome of an outcome is refused. "
    "A later outcome of the same event takes none away: windows count both, figures go by the newest."
)

KINDS: Mapping[str, tuple[str, tuple[FieldDef, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "transaction": (
            "An order at the checkout.",
            (
                *AMOUNT,
                *PRICE_PARTS,
                *LISTING_ID,
                *WHO,
                *CARD,
                *SHIPPING,
                *BILLING,
                *ITEMS,
                *BASKET,
                *SALE,
                *PAYMENT_METHOD,
                *PAYMENT,
                *CUSTOMS,
            ),
            ("amount",),
        ),
        "payment": (
            "One step of a payment: an attempt, the issuer's answer, the result of 3-D Secure, a capture.",
            (*AMOUNT, *WHO, *CARD, *SHIPPING, *BILLING, *ITEMS, *BASKET, *SALE, *PAYMENT_METHOD, *PAYMENT, *CUSTOMS),
            ("amount", "payment.stage"),
        ),
        "listing": (
            "Goods that a merchant offers, or a change of them.",
            (*LISTING, *IMAGES, *MERCHANT_SHORT, *SELLER_AT),
            ("listing.id", "listing.title"),
        ),
        "merchant": (
            "A merchant who applies, changes something, or is checked again.",
            (*MERCHANT, *SELLER_AT),
            ("merchant.id",),
        ),
        "account": (
            "Something done with an account: login, sign-up, a new password, contact or address.",
            (*ACCOUNT, *WHO, *SHIPPING, *MERCHANT_ID, *CHANNEL, *SESSION),
            ("account.action",),
        ),
        "fulfilment": (
            "A parcel on its way: shipped, scanned, weighed, delivered.",
            (*FULFILMENT, *BUYER, *SHIPPING, *BASKET, *MERCHANT_SHORT),
            ("fulfilment.stage",),
        ),
        "aftersale": (
            "A refund or return that is asked for, a claim, an inspection.",
            (*AMOUNT, *AFTERSALE, *WHO, *SHIPPING, *ITEMS, *BASKET, *MERCHANT_SHORT, *LIVESTREAM),
            ("aftersale.action",),
        ),
        "review": (
            "A buyer's review.",
            (*REVIEW, *LISTING_ID, *WHO, *ITEMS, *MERCHANT_SHORT, *LIVESTREAM),
            ("review.rating",),
        ),
        "promotion": (
            "A coupon that is claimed or redeemed, or a person who is referred.",
            (*PROMOTION, *AMOUNT, *COUPON, *WHO, *SHIPPING, *MERCHANT_SHORT, *CHANNEL, *SESSION),
            ("promotion.action",),
        ),
        "payout": (
            "Money that leaves to a seller, buyer or affiliate, or a change of the account it goes to.",
            (*AMOUNT, *PAYOUT, *BUYER, *SELLER_AT, *MERCHANT_SHORT),
            ("payout.action",),
        ),
        "complaint": (
            "A complaint by a buyer, a rights holder or an authority.",
            (*COMPLAINT, *LISTING_ID, *WHO, *ITEMS, *MERCHANT_SHORT, *LIVESTREAM),
            ("complaint.reason",),
        ),
        "outcome": (
            OUTCOME_ABOUT,
            OUTCOME,
            ("outcome.refers_to", "outcome.result"),
        ),
    }
)
"""Kind → (what it is, its fields beside the envelope, the paths that must be there)."""

LISTS = frozenset(
    {
        "items",
        "listing.images",
        "listing.licences",
        "listing.attributes",
        "merchant.licences",
        "merchant.authorisations",
    }
)
"""Paths that are lists of objects."""

ALWAYS = ("event_id", "at")
"""Paths that every event must have."""


def catalogue() -> dict[str, FieldDef]:
    """Every built-in field by path. A path that means two things in two kinds raises ValueError."""
    table: dict[str, FieldDef] = {}
    for _, fields, _ in KINDS.values():
        for path, each in by_path((*ENVELOPE, *fields)).items():
            known = table.setdefault(path, each)
            if replace(known, subject=each.subject) != each:
                raise ValueError(f"the field '{path}' has two meanings")
    return table
