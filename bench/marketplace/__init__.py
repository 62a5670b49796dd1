"""A marketplace of our own: some weeks of honest trade and seven trades of fraud, seeded, with the truth of each event.

Public data of cards says nothing about fake trade, coupons, refunds or accounts. This does, as far as its story holds.
The story reads no rule; its numbers are budgets, habits and precautions. Whoever wrote it knew the packs, though.

Honest (`town`, `honest`). Households of one to five share a home, its network, sometimes a tablet, a wallet, a card, a
refund account. About half work or study somewhere, on one network and at one address. Phones on mobile networks share
addresses by the thousand; some people always use a VPN, some have a throw-away e-mail, some a new card number for every
order. People order at their own pace (log-normal, mean once in twelve days), mostly in a few shops. They get new phones
and log in anew, forget passwords, change numbers, move, travel, send presents, use pick-up stations, borrow phones, pay
with an empty card and try again, refer family, open accounts at a stand in the street or as freshmen of one dormitory.
Some fit clothes and send most of them back; some live where the courier loses a fifth of the parcels. Shops are of all
sizes: a seller with one phone for everything who tries the checkout once, helpers and a spouse who buy, friends who
buy and praise when a shop opens, own riders without scanners, couriers without scales, catalogues with a wrong weight,
announced weeks of rebates, livestreams, group buying to a neighbour's door, colleagues who order lunch together.
Reviews are few, many the platform's own praise or the same two words.

Fraud (`crews`). Every crew has a care from 0 to 1, drawn once; each precaution is taken with a chance that grows with
it: a device for each account, hidden networks, own addresses, wallets and refund accounts, a parcel as heavy as the
goods, time spent looking, words of one's own, waiting.

* brushing: rings sell orders to one to three shops, with 12 to 60 accounts of their own or by paying 40 to 120 real
  people, 2 to 8 a day for 10 to 30 days; parcels are a bought number, a trinket, or filler; half to all are praised
* self-dealing: a seller with one to six accounts of family and staff, from the shop's devices or network, or not
* cashback-loop: buyers get most of the price back once it counts, as cashback or as "compensation"
* coupon-farm: 8 to 25 new accounts take a newcomers' offer to one to three shops and a few addresses, and sell it on
* refund-abuse: claims, or empty and swapped returns, on a third to nearly all orders, from one to three accounts
* takeover: two to eight victims of a crew; a guessed or phished password, sometimes a change of it, then one to three
  orders of what sells fast, at once or days later, to addresses of mules or as gift cards
* card-testing: 8 to 60 stolen cards, tried from one to five accounts, in minutes or over days

Who works for a crew without being its theme's account or shop (puppets, paid buyers, owners) is an accomplice: neither
honest nor to be found. Fraud is far more frequent than in life, so that there is enough of it to count: shares of a
whole, such as how many flags are right, mean nothing here.
"""
