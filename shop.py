from flowtrace import traced_node

PRICES = {"tea": 3.5, "cake": None}


@traced_node
def price(item, count):
    return PRICES[item] * count


def total(basket):
    return sum(price(item, count) for item, count in basket.items())


if __name__ == "__main__":
    print(total({"tea": 2, "cake": 1}))
